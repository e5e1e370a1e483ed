/* SPDX-License-Identifier: MIT */
/* Private keys for tests, written by OpenSSL: of every form, and of kinds that are refused. */
#pragma once

/* RFC 7515 appendix A.3, as PKCS #8 */
static const char pem_rfc7515[] = "-----BEGIN PRIVATE KEY-----\n"
				  "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjpsQnnGQmL+YBIff\n"
				  "H1136cspYG6+0iY7X1fCE9+E9LKhRANCAAR/zc4ncPbEXUGDy+5v20t7WAczNXvp\n"
				  "7xO6z248e9FURcfxRM0bvZt+hyzf7bnuufSzaV1uqQskrYpGIyiFiOWt\n"
				  "-----END PRIVATE KEY-----\n";

/* the same as SEC 1 */
static const char pem_rfc7515_sec1[] = "-----BEGIN EC PRIVATE KEY-----\n"
				       "MHcCAQEEII6bEJ5xkJi/mASH3x9dd+nLKWBuvtImO19XwhPfhPSyoAoGCCqGSM49\n"
				       "AwEHoUQDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72b\n"
				       "focs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\n"
				       "-----END EC PRIVATE KEY-----\n";

/* x begins with a zero byte */
static const char pem_zero_x[] = "-----BEGIN PRIVATE KEY-----\n"
				 "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgSVvz89cMywxmoN8a\n"
				 "NHO2VzFSYDueWB4oxXM7vQ4oxXihRANCAAQA3CEH4Trfoe8rfpyqbOJQjOrBO34b\n"
				 "/ReyCi/ayxzYm6k9bBYvPr3StryIjrwP7BP3zWiYRJhx/VxnuNFsGp2w\n"
				 "-----END PRIVATE KEY-----\n";

/* P-384, y begins with a zero byte */
static const char pem_zero_y_p384[] = "-----BEGIN PRIVATE KEY-----\n"
				      "MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDAdrZvFH7xhre9B6OD7\n"
				      "8RG9aAv3wqQ0TXjh+XGmkeFIdlXX3KBGGUU9Eg9GgDXvzDuhZANiAASh1ndcgLVk\n"
				      "DTGe3xc0h4d5fXjakm/vLz+i7fEZL+bGJ7aTaSwgre4a4FgA4Hme9hoAd2/U5rMh\n"
				      "VzBxn5mL7YOSnX2sCdWTyKSrP89b4GemndEbMlupq1/kGMFBmcs+jVg=\n"
				      "-----END PRIVATE KEY-----\n";

/* PKCS #1, 2048 bits */
static const char pem_rsa[] = "-----BEGIN RSA PRIVATE KEY-----\n"
			      "MIIEowIBAAKCAQEAlXOOXSVoQCYeZMdwameEEynBpFn1fOR5Buomh+jVeEHWjZ2l\n"
			      "l/ObybecO442d8WPe0JGhXlXTjktH0+GMe6RMqgsiiPZqHqGtBM4xud1m/uZybj4\n"
			      "jEK6OMY9BSReAWykghAvEZnEZkrsWT9LqKQaOJPcmlggtusRwJgcU4ri6quYZBrt\n"
			      "vvQyBC/6ciO6anZkPQvNvsV/b4V6yRRuq7+t/foY7jcdhkVV+vr/Mfi3k/0DIjMu\n"
			      "q8sFhO4LbqQpONhHDfy//VQOcK/x79PhAL0lgLUp+107q565xc3ZS5UE7qil6wyP\n"
			      "qjv8r1MZeznwZP5aF/dxvvsPdmW/qjc9THv8RQIDAQABAoIBAAoK/eIchWjqJti2\n"
			      "3kMIOcPf5ndY5DpEUC26xmQTrWSrZ/OUSHBxmmJvyDvoTpi12fJ6faqygL9s8C9O\n"
			      "dMIeOfuheXy+8/1yXmLzd7lGDI0y1x7LI0ipo0H1cFxMGVUXK+bhl4gjQSNunXtR\n"
			      "2Y+3l1t99DEbAvfHzCWZEy46Aw2p5/5oRuTViRan+ZhhSsRuA21Ib1cFFRUncpka\n"
			      "fToLAGtAiWC2nPZVvMuljVAextVDqkeBIs593M5hOnmd1MkWbmVF82fr+mY/Osiz\n"
			      "PqQMQ2mAv6knlb3bxG1ULW407VUaIkmuG0k6O9+17kMEY3Zh7IkfQActKMCIQuLl\n"
			      "FnlgMQECgYEAzP8YmrEQ6Zd4C2RVK6sFVPraoksaMqv6wjR2/ba9Qr7tls/IsU8w\n"
			      "TeBwba8b3HP194MSw8tNZlss/iSBuyDYlaEdWvjHjrDn+J/7FtccVsXxYCMW6qzl\n"
			      "PUiM/2LfBDo3C5405+KHmEg+Kd8bRjoXdvt7AgUyrSkSJUzOueXVB3UCgYEAuqKc\n"
			      "LJ/iAjGY/pyi5Ok/xkobC2V2DDoYGucYToOHRmC1Rzg9usAcDsQkNKPf8IOhsesx\n"
			      "fURvA5iLwY558uxU0uy8ekzlpnMwUEbkr7JpRIMvJKXc0X4OOMNwH8H57JctgtOt\n"
			      "vxIFeeniIgK83Sj2EEZZ9Qx9SReOdptCTRTiV5ECgYBnbpLQgmTBJ87HGLGsndbL\n"
			      "4OJtnq0yQfn9ARHEw+5Mfh9Mx7xAUm9R69tuTDsniU7iury+E5cS/Q//jxXyAAmn\n"
			      "vaodG4c85N+2X6oGBTVkRu2aDzph4CiuOiwCM7XI4UKi1wlksrStzk2nPM37KhZq\n"
			      "z0pqY4sFOcLRFSb9Pwy0fQKBgQCJ0v274pIXhqLyG6AbpbhH6X/RSasEWn5kl5YW\n"
			      "nQDv0wjrwDetyqKtsOD/0qjUR5DH/+R7GmdU43kJhfq+jxIQ9Ww2cMUCx3u9PK0y\n"
			      "pnEgfDP7P1Uzi4BbINCTUz8KHZYpT8K2IEvU/QfWj+kC9XXJDPrvgLqgmHnHUt6C\n"
			      "Z9LCUQKBgFHXWjMsWqFM4We5tulcq2s0mVS18O63nta4s/V9enuI4sKBpuvktrLB\n"
			      "eYXriiygH81yZBKa2zpwnoWuelyVUkhUcQWuIGC2pNJVR476dUniop9TBI2Kbnpa\n"
			      "h4Ybd8xQgIyisUBhHnyZ3K5rxMHUYyEE73CcIrReEhiwvrZ+QrMP\n"
			      "-----END RSA PRIVATE KEY-----\n";

/* as openssl ecparam -genkey writes it */
static const char pem_ec_with_parameters[] =
	"-----BEGIN EC PARAMETERS-----\n"
	"BggqhkjOPQMBBw==\n"
	"-----END EC PARAMETERS-----\n"
	"-----BEGIN EC PRIVATE KEY-----\n"
	"MHcCAQEEIBYA7aCTwECrTSeiloGuhcsqdQ1Z9Ncq6oPb1T6q2jt/oAoGCCqGSM49\n"
	"AwEHoUQDQgAEu6TdfPoN8xMUGMWpnd6pE9OzlKXOxqttpV7qtiJk+LS9I80a6ndq\n"
	"bbLTdsMvOx1pp9qzi2bc14iRWhF9IUe8KA==\n"
	"-----END EC PRIVATE KEY-----\n";

/* 1024 bits */
static const char pem_rsa_short[] = "-----BEGIN PRIVATE KEY-----\n"
				    "MIICdwIBADANBgkqhkiG9w0BAQEFAASCAmEwggJdAgEAAoGBANDgphbfike4pdDj\n"
				    "UZFLnnxJKGcjOzOsn83LtVV02OQQI9bwfB7ICbHsgPXp9oivdQtfd+Onjr1CL86t\n"
				    "ROGMRSrJenHActj+oYAME8ESDyP+MQutMALXR/w/4fdeAOakkALMvR5pPRkC+DC7\n"
				    "V3zq7u9IJpE9FYP4b9a7dMQNY4TpAgMBAAECgYAxLmQNCK9fecuZJp0DEAIOE4+u\n"
				    "0S3UWfX6l9dneq7C7EX0CwW+na0itqQawu7oeh+eAOmSsdY7G8Vz7XpFfSifoD37\n"
				    "zfGp0jyHESSbfIILwk13WTB8u24+f398eX2FFc34xB3xQXo95GQJSfslncxfK0YR\n"
				    "QGDoa0FHvZMHa4fiMQJBAPney6GdVvijNsmHhttbHllxisE85T8iH+NtZ8b+vAVC\n"
				    "RemLQ+O+qWEVimRLKgmS8GmjJs9jtoLH5LWJ7uqupDUCQQDWAGpqD9NZYqaIx096\n"
				    "6ZHwccTMCISaVpH1mQJxVSxXng6btp32CDWwjVUyubZa0JcrzVk730dxaftdnaO0\n"
				    "aUxlAkAWDmWZMYNQ1U9rwKvVxxhJuu0Nm6t8xC1ebPThKvE74Zq8P8/RVa4r5LPf\n"
				    "oIboa3EPUhiF6/5bUvvMTo2pZ5sVAkEAhLhrRu4bsLL6/5dE1sDnDs0wNS4PNzz7\n"
				    "dur3VdxyDMDs5GukmcLLsXxl23jL/JSjPLo1XmmCgHcvOwcaUTiA9QJBAOYAHTPg\n"
				    "x92nLqin5/bMwByAjXkzAdac0s5ntHnAaRl5Iauac1qs2SCrQTN5xZ9gr1yNJe+x\n"
				    "6VDbo82YPi/Uidc=\n"
				    "-----END PRIVATE KEY-----\n";

/* a curve that CAs do not take */
static const char pem_p521[] = "-----BEGIN PRIVATE KEY-----\n"
			       "MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIAWZzz1tRSuDO7KFw0\n"
			       "es8+4mnXZgSkceJxwo9g4MPj1BbWSHf2icP/WzIFoct8mO/Ors7AdluZmXw+NXuB\n"
			       "MuCQxFyhgYkDgYYABACwZVqrwVuWbRP0l6KaE9qSe/DGwtlF47b9L3lNlv/ZXcsf\n"
			       "RkK2vDkMjxPp4UkoO805Zz7D8cRX+Krsi7HuERejuAEG17eXbAFAJ6umqudis3ck\n"
			       "41/10rjV9F/akqYDQbsIxV0YpIcEd0ztCMvdWhtm4n88g3z6JibqHVFdMxLM0RW8\n"
			       "3Q==\n"
			       "-----END PRIVATE KEY-----\n";

/* a kind that CAs do not take */
static const char pem_ed25519[] = "-----BEGIN PRIVATE KEY-----\n"
				  "MC4CAQAwBQYDK2VwBCIEIEBCukaTBv9802ri9E1nN9MS6jGrl+M9eI7sxKdLdIQn\n"
				  "-----END PRIVATE KEY-----\n";

/* PKCS #8 with a password */
static const char pem_encrypted[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
				    "MIIBHDBXBgkqhkiG9w0BBQ0wSjApBgkqhkiG9w0BBQwwHAQIWGBCt4MHyWICAggA\n"
				    "MAwGCCqGSIb3DQIJBQAwHQYJYIZIAWUDBAEqBBB6tV8KoMZAtJuN38tjmks1BIHA\n"
				    "hG6laCRPB/UfBJTu8CNIXG4stXXzg02RyDehuv0VLJARVAiJc/sHqOTxsrRPip47\n"
				    "KMX+TtzZ7Hi8mPjHCr2X74Rpr7nB7jzT/DBUnCQze8eYHIkpM/cCxRk4xXD6GwrL\n"
				    "nnutDq6ugisxBlLglgoGi8iLr66mHcelnuyxMk17GJSM3jNFYquPbz7BdOTK9XVR\n"
				    "p7dgP4tgUMUIkYkOH64Vpo3BXCmNWuzsjzqC5fq427FqZyT9xCSUN4gMlOd4i1oe\n"
				    "-----END ENCRYPTED PRIVATE KEY-----\n";

/* SEC 1 with a password, the old way */
static const char pem_sec1_encrypted[] = "-----BEGIN EC PRIVATE KEY-----\n"
					 "Proc-Type: 4,ENCRYPTED\n"
					 "DEK-Info: AES-128-CBC,65BF5A74B38BAF05AD6104A1C1D37199\n"
					 "\n"
					 "0OrENZl34OoDLeAnHpIHZUjiOO+9b6vSWzzcPRw80+lhzLKcBiOgitTCVvy1K1GD\n"
					 "3lcV15MoEks4PU/60Di9UA4rzOZtARmojhQmp7JzXXRSzi89Cw3GtL+97CBeGoAP\n"
					 "VpQNBsptzg1gQ/wnvgq6gaeyWgW8WucU2JQH8NCq+p8=\n"
					 "-----END EC PRIVATE KEY-----\n";
