/* SPDX-License-Identifier: MIT */
/*
 * udp_limit - the least a program must do to put datagrams into a file, one a line: recvmmsg and writev. What
 * it reaches is the limit others are compared with.
 *
 *   udp_limit PORT FILE [WORD]       with WORD only datagrams that contain it are written (memmem, no
 * parsing)
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { N = 64, SLOT = 2048 };

int main(int argc, char **argv)
{
	static char memory[N][SLOT];
	struct mmsghdr msgs[N];
	struct iovec in[N], out[2 * N];
	struct sockaddr_in at = {.sin_family = AF_INET};
	int size = 8 << 20;

	if (argc < 3) {
		fprintf(stderr, "usage: udp_limit PORT FILE [WORD]\n");
		return 2;
	}
	const char *word = argc > 3 ? argv[3] : NULL;
	int file = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	at.sin_port = htons((uint16_t)atoi(argv[1]));
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (file < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0) {
		perror("udp_limit");
		return 1;
	}
	for (int i = 0; i < N; i++) {
		in[i] = (struct iovec){memory[i], SLOT};
		msgs[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &in[i], .msg_iovlen = 1}};
	}
	for (;;) {
		int n = recvmmsg(fd, msgs, N, MSG_WAITFORONE, NULL);
		int k = 0;
		for (int i = 0; i < n; i++) {
			if (word && !memmem(memory[i], msgs[i].msg_len, word, strlen(word)))
				continue;
			out[k++] = (struct iovec){memory[i], msgs[i].msg_len};
			out[k++] = (struct iovec){(char *)"\n", 1};
		}
		if (n < 0 || (k && writev(file, out, k) < 0)) {
			perror("udp_limit");
			return 1;
		}
	}
}
