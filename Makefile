# SPDX-License-Identifier: GPL-2.0-only
#
# One makefile for everything, not recursive over directories. What is built stands under $(B), so
# several builds of one tree can run side by side:
#
#   make                    build/ckpt
#   make B=/tmp/other       the same elsewhere
#   make test               install what is missing, build, run the unit and the end-to-end tests
#   make help               the other targets

MAKEFLAGS += --no-builtin-rules --no-builtin-variables
# Without a word about jobs: as many as there are CPUs.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all
SHELL := /bin/bash

B          ?= build
VM_KERNEL  ?= linux-image-6.1.0-50-amd64
VM_OTHER   ?= linux-image-6.12.100+deb12-amd64
ARCH       ?= $(shell uname -m)
CC         := $(if $(filter undefined default,$(origin CC)),gcc,$(CC))
AR         := $(if $(filter undefined default,$(origin AR)),ar,$(AR))
# The agent is compiled by gcc in every build, with clang and with sanitizers too.
AGENT_CC   ?= gcc
LD         := $(if $(filter undefined default,$(origin LD)),ld,$(LD))
OBJCOPY    ?= objcopy
PKG_CONFIG ?= pkg-config
PYTHON     ?= /usr/bin/python3
PREFIX     ?= /usr/local
SBINDIR    ?= $(PREFIX)/sbin
MANDIR     ?= $(PREFIX)/share/man
CFLAGS     ?= -O2 -g
WERROR     ?= -Werror
FUZZ_SECONDS ?= 60

# pkg-config is asked once, and only by a target that compiles: `make test` on a fresh machine has to get as
# far as scripts/install-deps first.
PKGS := libprotobuf-c libxxhash libcap
ask_pkg = $(or $(shell $(PKG_CONFIG) $(1) $(PKGS) && echo ' '),$(error $(PKG_CONFIG) does not know all of \
        "$(PKGS)"; run scripts/install-deps))
PKG_CFLAGS = $(eval PKG_CFLAGS := $(call ask_pkg,--cflags))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $(call ask_pkg,--libs))$(PKG_LIBS)

WARNINGS := -Wall -Wextra $(WERROR) -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla \
        -Wformat=2 -Wundef
INCLUDES := -Iinclude -I. -Icriu -Icompel -Icompel/arch/$(ARCH) -I$(B)/gen
COMMON_CFLAGS := -std=gnu11 -D_GNU_SOURCE $(CFLAGS) $(WARNINGS) $(INCLUDES) -fno-strict-aliasing -pthread
ALL_CFLAGS = $(COMMON_CFLAGS) $(PKG_CFLAGS) $(SAN_CFLAGS) $(EXTRA_CFLAGS)
# libnftables is loaded when a network lock needs it: linking it would cost every start of ckpt 0.4 ms.
ALL_LIBS   = $(SAN_CFLAGS) $(LDFLAGS) $(PKG_LIBS) -lnet -ldl -pthread -lrt
DEPFLAGS    = -MMD -MP -MF $(@:.o=.d)

# --- sources --------------------------------------------------------------------------------------------

# Of the rooms named arch/, only the one of this architecture; an empty or missing room is no error.
find_src = $(sort $(foreach f,$(shell find $(wildcard $(1)) -name '*.[cS]' 2>/dev/null), \
        $(if $(findstring /arch/,$(f)),$(if $(findstring /arch/$(ARCH)/,$(f)),$(f)),$(f))))
to_obj   = $(patsubst %.S,$(B)/obj/%.o,$(patsubst %.c,$(B)/obj/%.o,$(1)))

CRIU_SRC   := $(call find_src,criu)
AGENT_SRC  := $(call find_src,compel/agent)
COMPEL_SRC := $(filter-out compel/agent/%,$(call find_src,compel))
PROTO      := $(sort $(wildcard images/*.proto))
UNIT_SRC   := $(sort $(wildcard test/unit/test_*.c))
UNIT_HELP  := $(filter-out $(UNIT_SRC),$(sort $(wildcard test/unit/*.c)))
E2E_SRC    := $(sort $(wildcard test/e2e/*.c))
TLIB_SRC   := $(sort $(wildcard test/lib/*.c))
BENCH_SRC  := $(sort $(wildcard test/bench/*.c))
FUZZ_SRC   := $(sort $(wildcard test/fuzz/*.c))

GEN_C      := $(patsubst images/%.proto,$(B)/gen/images/%.pb-c.c,$(PROTO))
GEN_H      := $(GEN_C:.c=.h)
GEN_OBJ    := $(GEN_C:.c=.o)
CRIU_OBJ   := $(call to_obj,$(CRIU_SRC))
MAIN_OBJ   := $(filter $(B)/obj/criu/main.o,$(CRIU_OBJ))
COMPEL_OBJ := $(call to_obj,$(COMPEL_SRC))
AGENT_OBJ  := $(patsubst $(B)/obj/%,$(B)/agent-obj/%,$(call to_obj,$(AGENT_SRC)))
TLIB_OBJ   := $(call to_obj,$(TLIB_SRC))
UNIT_HELP_OBJ := $(call to_obj,$(UNIT_HELP))
UNIT_BIN   := $(patsubst test/unit/%.c,$(B)/test/unit/%,$(UNIT_SRC))
E2E_BIN    := $(patsubst test/e2e/%.c,$(B)/test/e2e/%,$(E2E_SRC))
BENCH_BIN  := $(patsubst test/bench/%.c,$(B)/test/bench/%,$(BENCH_SRC))
FUZZ_BIN   := $(patsubst test/fuzz/%.c,$(B)/test/fuzz/%,$(FUZZ_SRC))

# --- what decides whether something has to be built again -----------------------------------------------

# A stamp changes when the text it holds does: flags, or a list of objects (a file that went away leaves no
# newer object behind).
# $(1) file, $(2) text
define stamp
$(1): FORCE
	@mkdir -p $$(@D); printf '%s\n' '$(subst ','\'',$(2))' | cmp -s - $$@ || \
	        printf '%s\n' '$(subst ','\'',$(2))' > $$@
endef
FLAGS_TEXT = $(CC) $(COMMON_CFLAGS) $(SAN_CFLAGS) $(EXTRA_CFLAGS) $(PKGS)
$(eval $(call stamp,$(B)/stamp/flags,$(FLAGS_TEXT)))
$(eval $(call stamp,$(B)/stamp/criu,$(sort $(CRIU_OBJ) $(GEN_OBJ))))
$(eval $(call stamp,$(B)/stamp/compel,$(COMPEL_OBJ)))
$(eval $(call stamp,$(B)/stamp/agent,$(AGENT_OBJ)))
$(eval $(call stamp,$(B)/stamp/testlib,$(TLIB_OBJ)))
FORCE:

.PHONY: all install clean lint format man unit e2e e2e-programs test bench quickstart fuzz sanitize help FORCE vm-unit vm-e2e vm-kexec

all: $(B)/ckpt

help:
	@echo 'make [all]      build $(B)/ckpt and $(B)/libcompel.a'
	@echo 'make test       install what is missing, build, run the unit and end-to-end tests (root)'
	@echo 'make unit       unit tests only; UNIT_ARGS="-k PATTERN"'
	@echo 'make e2e        end-to-end tests only; E2E_ARGS="-k PATTERN -j N -v --keep"'
	@echo 'make quickstart a checkpoint and a restore to look at (root)'
	@echo 'make vm-unit    unit tests under VM_KERNEL=$(VM_KERNEL), in qemu; vm-e2e: end-to-end tests'
	@echo 'make vm-kexec   dump a TCP client under VM_KERNEL, restore it under VM_OTHER=$(VM_OTHER)'
	@echo 'make lint       clang-format, clang-tidy, cppcheck, shellcheck'
	@echo 'make format     let clang-format rewrite the sources'
	@echo 'make bench      timings beside yardsticks; BENCH_ARGS=...'
	@echo 'make fuzz       each test/fuzz/*.c for FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo 'make sanitize   ckpt and the unit tests with ASan and UBSan; the unit tests run'
	@echo 'make man        $(B)/ckpt.8'
	@echo 'make install    DESTDIR= PREFIX=$(PREFIX) MANDIR=$(MANDIR)'
	@echo 'make clean      remove $(B)'

# --- images: protobuf -----------------------------------------------------------------------------------

$(B)/gen/images/%.pb-c.c $(B)/gen/images/%.pb-c.h: images/%.proto $(PROTO)
	@mkdir -p $(@D)
	@echo '  PROTO   $<'
	@protoc-c --proto_path=. --c_out=$(B)/gen $<

$(GEN_OBJ): %.o: %.c $(B)/stamp/flags | $(GEN_H)
	@echo '  CC      $<'
	@$(CC) -std=gnu11 $(CFLAGS) -w -I$(B)/gen $(PKG_CFLAGS) $(SAN_CFLAGS) $(DEPFLAGS) -c -o $@ $<

# --- the agent: position independent, no libc, no relocation left, no vector registers ------------------

AGENT_CFLAGS := -std=gnu11 -D_GNU_SOURCE -O2 -ffreestanding -fPIC -fno-stack-protector -mgeneral-regs-only \
        -fno-jump-tables -fcf-protection=none -fno-tree-loop-distribute-patterns -fno-asynchronous-unwind-tables \
        -fvisibility=hidden -fno-strict-aliasing $(WARNINGS) $(INCLUDES)

$(B)/agent-obj/%.o: %.c $(B)/stamp/flags
	@mkdir -p $(@D)
	@echo '  CC      $< (agent)'
	@$(AGENT_CC) $(AGENT_CFLAGS) $(DEPFLAGS) -c -o $@ $<

$(B)/agent-obj/%.o: %.S $(B)/stamp/flags
	@mkdir -p $(@D)
	@echo '  AS      $< (agent)'
	@$(AGENT_CC) $(AGENT_CFLAGS) $(DEPFLAGS) -c -o $@ $<

$(B)/agent.elf: $(AGENT_OBJ) compel/agent/agent.lds $(B)/stamp/agent
	@echo '  LD      $@'
	@$(LD) -T compel/agent/agent.lds --no-undefined -z noexecstack --build-id=none -o $@ $(AGENT_OBJ)
	@scripts/check-agent $@

$(B)/agent.bin: $(B)/agent.elf
	@$(OBJCOPY) -O binary $< $@

# --- objects --------------------------------------------------------------------------------------------

$(B)/obj/%.o: %.c $(B)/stamp/flags | $(GEN_H)
	@mkdir -p $(@D)
	@echo '  CC      $<'
	@$(CC) $(ALL_CFLAGS) $(DEPFLAGS) -c -o $@ $<

$(B)/obj/%.o: %.S $(B)/stamp/flags
	@mkdir -p $(@D)
	@echo '  AS      $<'
	@$(CC) $(ALL_CFLAGS) -Wa,-I$(B) $(DEPFLAGS) -c -o $@ $<

$(B)/obj/compel/blob.o: $(B)/agent.bin

$(B)/libcompel.a: $(COMPEL_OBJ) $(B)/stamp/compel
	@echo '  AR      $@'
	@rm -f $@; $(AR) qcs $@ $(COMPEL_OBJ)

$(B)/libckpt.a: $(filter-out $(MAIN_OBJ),$(CRIU_OBJ)) $(GEN_OBJ) $(B)/stamp/criu
	@echo '  AR      $@'
	@rm -f $@; $(AR) qcs $@ $(filter-out $(MAIN_OBJ),$(CRIU_OBJ)) $(GEN_OBJ)

$(B)/ckpt: $(MAIN_OBJ) $(B)/libckpt.a $(B)/libcompel.a
	@echo '  LINK    $@'
	@$(CC) -o $@ $(MAIN_OBJ) -Wl,--start-group $(B)/libckpt.a $(B)/libcompel.a -Wl,--end-group $(ALL_LIBS)

# --- tests ----------------------------------------------------------------------------------------------

# A test's source may ask for flags of its own: /* unit: libs=-lm cflags=-mavx2 */ or /* e2e: ... */.
src_flags = $$(scripts/source-flags $(1) $<)

$(B)/test/unit/%: test/unit/%.c $(B)/libckpt.a $(B)/libcompel.a $(UNIT_HELP_OBJ) $(B)/stamp/flags
	@mkdir -p $(@D)
	@echo '  TEST    $@'
	@$(CC) $(ALL_CFLAGS) -Wno-unused-parameter -Itest/unit -Itest/lib $(call src_flags,cflags) -MMD -MP -MF $@.d -o $@ $< \
	        $(UNIT_HELP_OBJ) -Wl,--start-group $(B)/libckpt.a $(B)/libcompel.a -Wl,--end-group \
	        $(call src_flags,libs) $$($(PKG_CONFIG) --libs cmocka) $(ALL_LIBS)

# The programs that are dumped are not sanitized and not linked to anything of ckpt.
$(TLIB_OBJ): EXTRA_CFLAGS += -Itest/lib
$(TLIB_OBJ): override SAN_CFLAGS :=

$(B)/libtest.a: $(TLIB_OBJ) $(B)/stamp/testlib
	@echo '  AR      $@'
	@rm -f $@; $(AR) qcs $@ $(TLIB_OBJ)

define test_program
$(B)/test/$(1)/%: test/$(1)/%.c $(B)/libtest.a $(B)/stamp/flags
	@mkdir -p $$(@D)
	@echo '  TEST    $$@'
	@$$(CC) $$(COMMON_CFLAGS) -Itest/lib $$(call src_flags,cflags) -MMD -MP -MF $$@.d -o $$@ $$< \
	        $(B)/libtest.a $$(call src_flags,libs) -pthread -lrt
endef
$(foreach d,e2e bench quickstart,$(eval $(call test_program,$(d))))

unit: $(UNIT_BIN)
	@scripts/run-unit --totals $(B)/unit.totals $(UNIT_ARGS) -- $(UNIT_BIN)

e2e-programs: $(E2E_BIN)

e2e: $(B)/ckpt $(E2E_BIN)
	@$(PYTHON) test/run --ckpt $(B)/ckpt --build $(B) --totals $(B)/e2e.totals $(E2E_ARGS)

test:
	@scripts/install-deps
	@+$(MAKE) --no-print-directory all $(UNIT_BIN) $(E2E_BIN)
	@rm -f $(B)/unit.totals $(B)/e2e.totals; status=0; \
	        $(MAKE) --no-print-directory unit || status=1; $(MAKE) --no-print-directory e2e || status=1; \
	        if ((status)); then echo 'make test: failed'; cat $(B)/unit.totals $(B)/e2e.totals; fi; exit $$status

bench: $(B)/ckpt $(BENCH_BIN)
	@test -x test/bench/run || { echo 'make bench: there is no test/bench/run' >&2; exit 1; }
	@CKPT=$(abspath $(B))/ckpt BENCH_BIN=$(abspath $(B))/test/bench test/bench/run $(BENCH_ARGS)

# Under other kernels of Debian's, in qemu: not part of `make test`.
vm-unit: $(B)/ckpt $(UNIT_BIN)
	@test/vm/run $(B) $(VM_KERNEL) unit $(UNIT_ARGS)

vm-e2e: $(B)/ckpt $(E2E_BIN)
	@test/vm/run $(B) $(VM_KERNEL) $(E2E_ARGS)

vm-kexec: $(B)/ckpt
	@test/vm/kexec $(B) $(VM_KERNEL) $(VM_OTHER)

quickstart:
	@scripts/install-deps
	@+$(MAKE) --no-print-directory --silent all $(B)/test/quickstart/demo
	@CKPT=$(abspath $(B))/ckpt DEMO=$(abspath $(B))/test/quickstart/demo test/quickstart/run

# Sanitized builds live in a build directory of their own.
SAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer

sanitize:
	@+$(MAKE) --no-print-directory B=$(B)/san WERROR= SAN_CFLAGS='$(SAN_FLAGS)' CFLAGS='-O1 -g' all unit
	@+ASAN_OPTIONS=detect_leaks=0 $(MAKE) --no-print-directory B=$(B)/san WERROR= SAN_CFLAGS='$(SAN_FLAGS)' CFLAGS='-O1 -g' e2e

$(B)/test/fuzz/%: test/fuzz/%.c $(B)/libckpt.a $(B)/libcompel.a
	@mkdir -p $(@D)
	@echo '  FUZZ    $@'
	@$(CC) $(ALL_CFLAGS) -fsanitize=fuzzer $(call src_flags,cflags) -MMD -MP -MF $@.d -o $@ $< \
	        -Wl,--start-group $(B)/libckpt.a $(B)/libcompel.a -Wl,--end-group $(call src_flags,libs) $(ALL_LIBS)

.PHONY: fuzz-programs
fuzz-programs: $(FUZZ_BIN)

fuzz:
	@+$(MAKE) --no-print-directory B=$(B)/fuzz CC=clang WERROR= CFLAGS='-O1 -g' \
	        SAN_CFLAGS='$(SAN_FLAGS) -fsanitize=fuzzer-no-link' fuzz-programs
	@scripts/run-fuzz $(B)/fuzz/test/fuzz $(FUZZ_SECONDS) $(notdir $(FUZZ_BIN))

# --- checks, documentation, installation ----------------------------------------------------------------

lint: $(GEN_H)
	@TIDY_FLAGS='-std=gnu11 -D_GNU_SOURCE $(INCLUDES) $(PKG_CFLAGS) -Itest/lib -Itest/unit' BUILD='$(B)' scripts/lint

format:
	@scripts/sources c h | xargs -r clang-format -i

man: $(B)/ckpt.8

$(B)/ckpt.8: $(wildcard scripts/gen-man* Documentation/ckpt.8.in criu/*.def criu/*/*.def criu/cli/*.c) include/version.h
	@mkdir -p $(@D)
	@echo '  MAN     $@'
	@scripts/gen-man > $@

install: $(B)/ckpt $(B)/ckpt.8
	install -D -m 0755 $(B)/ckpt $(DESTDIR)$(SBINDIR)/ckpt
	install -D -m 0644 $(B)/ckpt.8 $(DESTDIR)$(MANDIR)/man8/ckpt.8

clean:
	rm -rf $(B)

# Only what earlier builds wrote; the list is taken from the objects of now, so a stale .d is never read.
-include $(wildcard $(patsubst %.o,%.d,$(CRIU_OBJ) $(COMPEL_OBJ) $(AGENT_OBJ) $(GEN_OBJ) $(TLIB_OBJ) \
        $(UNIT_HELP_OBJ)) $(addsuffix .d,$(UNIT_BIN) $(E2E_BIN) $(BENCH_BIN) $(FUZZ_BIN)))
