# What Makefiles without autotools share.  Whoever includes it says how @TYPE@.so and test_@TYPE@ are made, and in
# SOURCES what "make dist" packs besides the files below.
PKG_CONFIG ?= pkg-config
VERSION = 0.1.0
ARCHIVE = semstreams-@NAME@-$(VERSION)
plugindir = $(shell $(PKG_CONFIG) --variable=plugindir semstreams)
FILES = $(SOURCES) README.md check.h package.mk host.sh pipeline.json pipeline.test test_@TYPE@.c
BUILT = @TYPE@.so test_@TYPE@
AGAIN = $(MAKE) -f $(firstword $(MAKEFILE_LIST)) -C $(ARCHIVE)

all: @TYPE@.so

# unit tests, then the plugin in the installed program: its rules (semstreams plugins check), a pipeline
check: all test_@TYPE@ $(CHECKS)
	./test_@TYPE@
	PLUGIN='$(CURDIR)/@TYPE@.so' CHECK_OPTIONS='$(CHECK_OPTIONS)' sh ./pipeline.test || test $$? = 77 # skipped

install: all
	install -D -m 755 @TYPE@.so '$(DESTDIR)$(plugindir)/@TYPE@.so'

uninstall:
	rm -f '$(DESTDIR)$(plugindir)/@TYPE@.so'

dist:
	rm -rf $(ARCHIVE)
	mkdir $(ARCHIVE)
	cp -p $(FILES) $(ARCHIVE)/
	tar -cJf $(ARCHIVE).tar.xz $(ARCHIVE)
	rm -rf $(ARCHIVE)

# What is packed builds, passes its tests, installs one file, removes it, and leaves nothing behind.
distcheck: dist
	tar -xf $(ARCHIVE).tar.xz
	$(AGAIN) check
	$(AGAIN) install DESTDIR='$(CURDIR)/$(ARCHIVE)/root'
	test "$$(cd $(ARCHIVE)/root && find . -type f)" = '.$(plugindir)/@TYPE@.so'
	$(AGAIN) uninstall DESTDIR='$(CURDIR)/$(ARCHIVE)/root'
	test -z "$$(find $(ARCHIVE)/root -type f)" && rm -r $(ARCHIVE)/root
	$(AGAIN) clean
	test "$$(ls $(ARCHIVE) | LC_ALL=C sort)" = "$$(tar -tf $(ARCHIVE).tar.xz | sed -n 's|^[^/]*/||; /./p' | LC_ALL=C sort)"
	rm -rf $(ARCHIVE)

clean:
	rm -f $(BUILT)

.PHONY: all check install uninstall dist distcheck clean
