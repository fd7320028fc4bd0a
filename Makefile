# Dory's build. `make help` lists the targets; CONTRIBUTING.md shows the daily use.
#
# Variables (give them on the command line):
#   ARCH=amd64|arm64|armv7|riscv64  what to build for                 (default: this machine)
#   SAN=asan|tsan       with sanitizers, for this machine's libc (asan: address and undefined)
#   BUILD=dir           where to build                (default: build/$(ARCH), build/host-$(SAN))
#   DEPS=dir            the built dependencies                        (default: build/deps)
#   T=word              unit, e2e, fuzz: only the tests whose name contains the word
#   P=folder            format, lint: only pkg/folder and its tests
#   FUZZ_SECONDS=n      fuzz: how long each target                    (default: 20)
#   CC_HOST=gcc|clang   compiler of SAN builds                        (default: gcc)
#   STATIC_PIE=1        link position independent (ASLR), 2 % larger
#   PREFIX, DESTDIR     install: where to                             (default: /usr/local)
#   JOBS=n              how many at a time                            (default: number of processors)
#   V=1                 show the commands

MAKEFLAGS += -rR --no-print-directory
ifeq ($(MAKELEVEL),0)
  MAKEFLAGS += -j$(or $(JOBS),$(shell nproc))
endif
SHELL := /bin/bash
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
all:

# The layers, lowest first: a folder under pkg/ may use those before it. tests/lint/layers reads this line.
LAYERS := base codec net schema store api client controllers scheduler runtime node cluster ingress kubectl web
# Folders that may use less than that: only these.
runtime_MAY_USE := base codec net

# Folders compiled for size; all others for speed.
SMALL := kubectl web

# cmd/dory/version.c is compiled with this as DORY_COMMIT.
COMMIT ?= $(shell git describe --always --dirty --exclude '*' --abbrev=12 2>/dev/null || echo unknown)

# --- what to build for ----------------------------------------------------------------------------

HOST_ARCH := $(patsubst x86_64,amd64,$(patsubst aarch64,arm64,$(patsubst armv7l,armv7,$(shell uname -m))))
override ARCH := $(or $(ARCH),$(HOST_ARCH))
CC_HOST ?= gcc
SAN ?=

GNU_amd64 := x86_64-linux-gnu
GNU_arm64 := aarch64-linux-gnu
GNU_armv7 := arm-linux-gnueabihf
GNU_riscv64 := riscv64-linux-gnu
QEMU_amd64 := qemu-x86_64-static
QEMU_arm64 := qemu-aarch64-static
QEMU_armv7 := qemu-arm-static
QEMU_riscv64 := qemu-riscv64-static
GNU := $(GNU_$(ARCH))
ifeq ($(GNU),)
$(error unknown ARCH '$(ARCH)': amd64, arm64, armv7 or riscv64)
endif

DEPS ?= build/deps
CCACHE := $(shell command -v ccache 2>/dev/null)
export CCACHE_COMPILERCHECK ?= content

WARN := -Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith -Wwrite-strings \
	-Wundef -Wformat=2 -Wno-unused-parameter -Wno-missing-field-initializers
CPPFLAGS_ALL := -Ipkg -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DNGHTTP2_STATICLIB -DYAML_DECLARE_STATIC
CFLAGS_ALL := -std=gnu17 -g -pipe -fstack-protector-strong -fno-strict-aliasing

ifeq ($(SAN),)
  VARIANT := $(ARCH)
  BUILD ?= build/$(ARCH)
  CC := $(DEPS)/$(VARIANT)/bin/cc
  AR := $(GNU)-gcc-ar
  STRIP := $(GNU)-strip
  SPEED := -O2
  SIZE := -Os
  CFLAGS_ALL += -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -fno-unwind-tables \
	-fomit-frame-pointer
  ifeq ($(STATIC_PIE),1)
    CFLAGS_ALL += -fPIE
    LDFLAGS_ALL := -static-pie
  else
    CFLAGS_ALL += -fno-pie
    LDFLAGS_ALL := -static -no-pie
  endif
  LDFLAGS_ALL += -Wl,--gc-sections -Wl,-z,relro,-z,now -Wl,-z,noexecstack
  # the archive stands before those that need it
  LDFLAGS_ALL += -Wl,-u,mi_malloc
  MALLOC := $(DEPS)/$(VARIANT)/lib/libmimalloc.a
  RUNNER := $(if $(filter $(ARCH),$(HOST_ARCH)),,$(QEMU_$(ARCH)))
else
  BUILD ?= build/host-$(SAN)
  CC := $(CC_HOST)
  AR := ar
  STRIP := strip
  SPEED := -O1
  SIZE := -O1
  CFLAGS_ALL += -fno-omit-frame-pointer -fPIE
  LDFLAGS_ALL := -pie
  # the sanitizers' shadow memory does not get along with every kernel's address randomisation
  RUNNER := $(shell setarch -R true 2>/dev/null && echo setarch -R)
  ifeq ($(SAN),asan)
    VARIANT := host
    CFLAGS_ALL += -fsanitize=address,undefined -fno-sanitize-recover=undefined
  else ifeq ($(SAN),tsan)
    VARIANT := host-tsan
    CFLAGS_ALL += -fsanitize=thread
  else ifeq ($(SAN),fuzz)
    VARIANT := host
    CC := clang
    CFLAGS_ALL += -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
  else
    $(error unknown SAN '$(SAN)': asan or tsan)
  endif
endif
ifneq ($(findstring clang,$(CC)),)
  WARN += -Wno-format-nonliteral
else
  # a message that is cut to fit its fixed buffer is meant to be
  WARN += -Wshadow=local -Wlogical-op -Wno-format-truncation
endif

SYS := $(DEPS)/$(VARIANT)
ifneq ($(SAN),)
  CPPFLAGS_ALL += -isystem $(SYS)/include
endif
DEP_LIBS := $(addprefix $(SYS)/lib/,libmbedtls.a libsqlite3.a libuv.a libyaml.a libz.a libzstd.a libnghttp2.a \
	libllhttp.a libseccomp.a)
DEP_LIBS_TEST := $(SYS)/lib/libcmocka.a
SYS_LIBS := $(if $(SAN),-lpthread -ldl -lm)

ifeq ($(V),1)
  Q :=
  say := @:
else
  Q := @
  say := $(if $(findstring s,$(filter-out --%,$(firstword -$(MAKEFLAGS)))),@:,@printf '  %-7s %s\n')
endif

# --- what there is to build -----------------------------------------------------------------------

C_FILES := $(sort $(shell find pkg cmd/dory tests/unit tests/tools tests/fuzz -name '*.c' 2>/dev/null))

PKGS := $(foreach p,$(LAYERS),$(if $(wildcard pkg/$(p)/.),$(p)))
UNKNOWN_PKGS := $(filter-out $(LAYERS),$(patsubst pkg/%/.,%,$(wildcard pkg/*/.)))
ifneq ($(UNKNOWN_PKGS),)
$(error pkg/$(firstword $(UNKNOWN_PKGS)) has no place in LAYERS, see Makefile)
endif

# $(call below,folder): it and the layers it may use, highest first (the order a linker wants).
reverse = $(if $(1),$(call reverse,$(wordlist 2,99,$(1))) $(firstword $(1)))
upto = $(if $(filter $(1),$(firstword $(2))),$(1),$(if $(2),$(firstword $(2)) $(call upto,$(1),$(wordlist 2,99,$(2)))))
below = $(call reverse,$(filter $(PKGS),$(if $($(1)_MAY_USE),$($(1)_MAY_USE) $(1),$(call upto,$(1),$(LAYERS)))))
archives = $(patsubst %,$(BUILD)/lib/%.a,$(1))

ALL_ARCHIVES := $(call archives,$(call reverse,$(PKGS)))
DEPS_BUILT := $(SYS)/built
BIN := $(BUILD)/dory

.PHONY: FORCE
FORCE:

# --- dependencies ---------------------------------------------------------------------------------

.PHONY: all deps deps-all deps-host
all: $(BIN) ## the binary $(BUILD)/dory (default); builds the dependencies first when lacking

deps: $(DEPS_BUILT) ## fetch the pinned sources and build them for ARCH (or SAN)

deps-host: $(DEPS)/host/built
deps-all: ## the same for all four architectures and for the sanitizers
	+@DEPS='$(DEPS)' vendor-notes/deps.sh build amd64 arm64 armv7 riscv64 host host-tsan

# The stamp is touched when deps.sh finds nothing to do; "built" is newer only after a real build.
define DEPS_RULES
$(DEPS)/$(1)/stamp: vendor-notes/deps.sh vendor-notes/pins vendor-notes/mbedtls_user.h
	+@DEPS='$(DEPS)' vendor-notes/deps.sh build $(1)
$(DEPS)/$(1)/built: $(DEPS)/$(1)/stamp ;
endef
$(foreach v,$(sort $(VARIANT) host),$(eval $(call DEPS_RULES,$(v))))

# --- compiling ------------------------------------------------------------------------------------

COMPILE = $(CCACHE) $(CC) $(CFLAGS_ALL) $(WARN) $(CPPFLAGS_ALL) $(CFLAGS) -MMD -MP

# $(call remember,file,text): a file that is made anew when its text is another one than last time.
define REMEMBER
ifneq ($$(strip $(2)),$$(file <$(1)))
$(1): FORCE
endif
$(1):
	@mkdir -p $$(@D)
	@printf '%s' '$$(subst ','\'',$$(strip $(2)))' > $$@
endef
remember = $(eval $(call REMEMBER,$(1),$(2)))

FLAGS_NOW := $(CC) $(CFLAGS_ALL) $(WARN) $(CPPFLAGS_ALL) $(CFLAGS) $(SPEED) $(SIZE)
$(call remember,$(BUILD)/flags,$$(FLAGS_NOW))

opt = $(if $(filter $(SMALL),$(word 2,$(subst /, ,$(1)))),$(SIZE),$(SPEED))

$(BUILD)/obj/%.o: %.c $(DEPS_BUILT) $(BUILD)/flags
	@mkdir -p $(@D)
	$(say) CC $<
	$(Q)$(COMPILE) $(call opt,$<) -c $< -o $@

# Files embedded in the archive of their folder, as read-only data between two symbols:
#   pkg/schema/files/*  concatenated in name order    schema_files_start, schema_files_end
#   pkg/P/embed/F       each by itself                embed_P_F_start, embed_P_F_end  (_ for non-alphanumerics)
# A NUL byte follows each; it lies outside.
embeds = $(sort $(wildcard pkg/$(1)/embed/*))
schema_files := $(sort $(wildcard pkg/schema/files/*))
incbin = printf '\t.global %s_start\n\t.global %s_end\n\t.balign 16\n%s_start:\n\t.incbin "%s"\n%s_end:\n\t.byte 0\n' \
	$(1) $(1) $(1) $(2) $(1)

$(BUILD)/gen/%/embed.S: Makefile
	@mkdir -p $(@D)
	@{ printf '\t.section .rodata.embed_$*,"a"\n'; \
	$(if $(filter schema,$*),$(if $(schema_files),$(call incbin,schema_files,$(BUILD)/gen/schema/files);)) \
	for f in $(call embeds,$*); do s=embed_$*_$$(basename "$$f" | tr -c 'A-Za-z0-9\n' _); \
		$(call incbin,"$$s","$$f"); done; \
	printf '\t.section .note.GNU-stack,"",%%progbits\n'; } > $@

$(BUILD)/gen/schema/files: $(schema_files) $(BUILD)/lib/schema.list
	@mkdir -p $(@D)
	@cat $(schema_files) > $@

$(BUILD)/obj/gen/%/embed.o: $(BUILD)/gen/%/embed.S $(DEPS_BUILT) $(BUILD)/flags
	@mkdir -p $(@D)
	$(say) EMBED pkg/$*
	$(Q)$(CC) $(CFLAGS_ALL) -c $< -o $@

# One archive a folder. The list of its parts is a file, so that it is made anew when one comes or goes.
define PKG_RULES
$(1)_EMBEDS := $$(call embeds,$(1)) $(if $(filter schema,$(1)),$$(if $$(schema_files),$(BUILD)/gen/schema/files))
$(1)_OBJ := $$(patsubst %.c,$(BUILD)/obj/%.o,$$(filter pkg/$(1)/%,$$(C_FILES)))
ifneq ($$(strip $$($(1)_EMBEDS)),)
$(1)_OBJ += $(BUILD)/obj/gen/$(1)/embed.o
$(BUILD)/obj/gen/$(1)/embed.o: $$($(1)_EMBEDS)
$(BUILD)/gen/$(1)/embed.S: $(BUILD)/lib/$(1).list
endif
$$(call remember,$(BUILD)/lib/$(1).list,$$$$($(1)_OBJ) $$$$($(1)_EMBEDS) $(if $(filter schema,$(1)),$$$$(schema_files)))
$(BUILD)/lib/$(1).a: $$($(1)_OBJ) $(BUILD)/lib/$(1).list
	@rm -f $$@
	$$(Q)$(AR) crs $$@ $$($(1)_OBJ)
.PHONY: $(1)
$(1): $(BUILD)/lib/$(1).a
endef
$(foreach p,$(PKGS),$(eval $(call PKG_RULES,$(p))))

.PHONY: libs
libs: $(ALL_ARCHIVES) ## the archives $(BUILD)/lib/*.a; `make store` makes that of pkg/store alone

# --- linking --------------------------------------------------------------------------------------

# $(call link,objects,archives,libraries): mimalloc first, so that its malloc is the one.
link = $(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $(1) $(MALLOC) $(2) $(3) $(DEP_LIBS) $(SYS_LIBS)

CMD_OBJ := $(patsubst %.c,$(BUILD)/obj/%.o,$(filter cmd/dory/%,$(C_FILES)))

ifneq ($(wildcard cmd/dory/version.c),)
$(call remember,$(BUILD)/commit,$(COMMIT))
$(BUILD)/obj/cmd/dory/version.o: $(BUILD)/commit
$(BUILD)/obj/cmd/dory/version.o: CPPFLAGS_ALL += -DDORY_COMMIT='"$(COMMIT)"'
endif

$(BIN).debug: $(CMD_OBJ) $(ALL_ARCHIVES)
	$(if $(CMD_OBJ),,$(error there is no cmd/dory/*.c))
	$(say) LINK $@
	$(Q)$(call link,$(CMD_OBJ),$(ALL_ARCHIVES)) -Wl,-Map=$(BUILD)/dory.map

$(BIN): $(BIN).debug
	$(say) STRIP $@
	$(Q)$(STRIP) -s -R .comment -o $@ $<

# --- unit tests -----------------------------------------------------------------------------------

# tests/unit/FOLDER/test_*.c: one program each, linked with pkg/FOLDER and what it may use; of
# tests/unit/cmd with everything, and with cmd/dory's objects but main.o. Under ThreadSanitizer only those
# that say so in a comment: "sanitizer: thread".
UNIT_SRC := $(foreach f,$(filter tests/unit/%,$(C_FILES)),$(if $(filter test_%,$(notdir $(f))),$(f)))
ifeq ($(SAN),tsan)
  UNIT_SRC := $(if $(UNIT_SRC),$(shell grep -l 'sanitizer: thread' $(UNIT_SRC)))
endif
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT_SRC))
matching = $(if $(T),$(foreach u,$(1),$(if $(findstring $(T),$(u:$(BUILD)/%=%)),$(u))),$(1))
unit_pkg = $(firstword $(subst /, ,$(1)))

define UNIT_RULES
$(BUILD)/unit/$(1): $(BUILD)/obj/tests/unit/$(1).o \
		$(if $(filter $(unit_pkg),$(PKGS)),,$(filter-out %/main.o,$(CMD_OBJ))) \
		$(call archives,$(if $(filter $(unit_pkg),$(PKGS)),$(call below,$(unit_pkg)),$(call reverse,$(PKGS)))) | \
		$(DEPS_BUILT)
	@mkdir -p $$(@D)
	$$(say) LINK $$@
	$$(Q)$$(call link,$$(filter %.o,$$^),$$(filter %.a,$$^),$(DEP_LIBS_TEST))
endef
$(foreach u,$(UNIT),$(eval $(call UNIT_RULES,$(u:$(BUILD)/unit/%=%))))

export RUNNER
export ASAN_OPTIONS ?= detect_stack_use_after_return=1:strict_string_checks=1:allocator_may_return_null=1
export UBSAN_OPTIONS ?= print_stacktrace=1
export TSAN_OPTIONS ?= second_deadlock_stack=1

.PHONY: unit unit-build unit-run
unit: $(call matching,$(UNIT)) ## build and run the unit tests; ARCH=... under qemu-user, SAN=... sanitized
	@tests/run.sh unit '$(BUILD)' $^
unit-build: $(call matching,$(UNIT))
unit-run: # those that are built; `make test` has counted the failure of the others
	@tests/run.sh unit '$(BUILD)' $(call matching,$(UNIT))

# --- fuzzing --------------------------------------------------------------------------------------

# tests/fuzz/fuzz_NAME.c defines LLVMFuzzerTestOneInput; its corpus is in tests/fuzz/corpus/NAME/, a
# dictionary, if any, in tests/fuzz/NAME.dict. With SAN=fuzz (clang) it is a libFuzzer program, otherwise one
# that runs the files it is given (tests/fuzz/standalone.c).
FUZZ_SECONDS ?= 20
FUZZ := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_MAIN := $(if $(filter fuzz,$(SAN)),,$(BUILD)/obj/tests/fuzz/standalone.o)
$(BUILD)/fuzz/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(FUZZ_MAIN) $(ALL_ARCHIVES)
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(call link,$(filter %.o,$^),$(filter %.a,$^)) $(if $(FUZZ_MAIN),,-fsanitize=fuzzer)

.PHONY: fuzz fuzz-run fuzz-corpus fuzz-build corpus-run
fuzz: ## fuzz every parser of outside input for FUZZ_SECONDS (needs clang and its libFuzzer)
	+@$(MAKE) SAN=fuzz BUILD=$(if $(filter command line,$(origin BUILD)),$(BUILD),build/host-fuzz) fuzz-run
fuzz-run: $(call matching,$(FUZZ))
	@FUZZ_SECONDS='$(FUZZ_SECONDS)' tests/run.sh fuzz '$(BUILD)' $^
fuzz-corpus: $(call matching,$(FUZZ)) ## run every fuzz target over its corpus only
	@tests/run.sh corpus '$(BUILD)' $^
fuzz-build: $(call matching,$(FUZZ))
corpus-run:
	@tests/run.sh corpus '$(BUILD)' $(call matching,$(FUZZ))

# --- end-to-end tests, benchmarks, demonstration --------------------------------------------------

TOOLS := $(patsubst tests/tools/%.c,$(BUILD)/tools/%,$(wildcard tests/tools/*.c))
$(BUILD)/tools/%: $(BUILD)/obj/tests/tools/%.o $(ALL_ARCHIVES)
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(call link,$<,$(filter %.a,$^))

.PHONY: tools e2e e2e-run test bench demo demo-stop
tools: $(TOOLS) ## the helper programs of the tests, $(BUILD)/tools/*

e2e: $(BIN) $(TOOLS) e2e-run ## run the end-to-end tests tests/e2e/*.sh (root); T=word for some
e2e-run: $(if $(filter e2e,$(MAKECMDGOALS)),$(BIN) $(TOOLS))
	@tests/run.sh e2e '$(BUILD)' $(foreach t,$(sort $(filter-out %/lib.sh,$(wildcard tests/e2e/*.sh))),$(if $(or $(if $(T),,1),$(findstring $(T),$(t))),$(t)))

test: ## everything: lint, unit tests (also sanitized, also on the other architectures), corpora, e2e
	+@tests/run.sh all

bench: $(BIN) $(TOOLS) ## measure: tests/bench/run.sh
	@DORY='$(abspath $(BIN))' BUILD='$(abspath $(BUILD))' tests/bench/run.sh

demo: $(BIN) ## start a small cluster on this machine: tests/demo/demo.sh
	@DORY='$(abspath $(BIN))' BUILD='$(abspath $(BUILD))' tests/demo/demo.sh

demo-stop: ## end it
	@DORY='$(abspath $(BIN))' BUILD='$(abspath $(BUILD))' tests/demo/demo-stop.sh

# --- lint and format ------------------------------------------------------------------------------

# What the checks look at; P=folder limits it.
LINT_C = $(shell find $(if $(P),$(wildcard pkg/$(P) tests/unit/$(P)),$(wildcard pkg cmd tests)) -name '*.[ch]' | sort)

.PHONY: lint format lint-clang
lint: ## formatting, layers, banned functions, clang's warnings, shell scripts; P=folder for one
	+@LINT_FILES='$(LINT_C)' MAKE='$(MAKE)' P='$(P)' DEPS='$(DEPS)' tests/run.sh lint 'build/lint'

format: ## clang-format the tree, or P=folder
	@clang-format -i --style=file $(LINT_C)

# clang as a second opinion: only its warnings; a file is looked at again when it or its headers change.
CLANG_OK := $(patsubst %.c,build/lint/%.ok,$(filter %.c,$(if $(filter lint-clang,$(MAKECMDGOALS)),$(LINT_C))))
CLANG_FLAGS := -std=gnu17 -Ipkg -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DNGHTTP2_STATICLIB -DYAML_DECLARE_STATIC \
	-DDORY_COMMIT='""' \
	$(filter-out -Wlogical-op -Wshadow=local -Wno-format-truncation,$(WARN)) -Wno-format-nonliteral -isystem $(DEPS)/host/include
build/lint/%.ok: %.c $(DEPS)/host/built Makefile
	@mkdir -p $(@D)
	$(Q)clang $(CLANG_FLAGS) -fsyntax-only -MMD -MP -MT $@ -MF $(@:.ok=.d) $<
	@touch $@
lint-clang: $(CLANG_OK)

# --- installing and cleaning ----------------------------------------------------------------------

PREFIX ?= /usr/local

.PHONY: install clean distclean help
install: $(BIN) ## the binary, its systemd units and the licences of what is in it
	install -D -m 755 $(BIN) '$(DESTDIR)$(PREFIX)/bin/dory'
	$(if $(wildcard systemd/*.service),install -D -m 644 -t '$(DESTDIR)$(PREFIX)/lib/systemd/system' $(wildcard systemd/*.service))
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/doc/dory' LICENSE
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/doc/dory/licences' $(SYS)/licences/*

clean: ## remove what was built, except the dependencies
	rm -rf $(filter-out build/deps,$(wildcard build/*)) $(if $(filter command line,$(origin BUILD)),'$(BUILD)')

distclean: ## remove everything that was built or fetched
	rm -rf build

print-%:
	@echo '$($*)'

help: ## this list
	@sed -n '/^# Variables/,/^$$/s/^# \{0,1\}//p' Makefile
	@echo 'Targets:'
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "  %-13s %s\n", $$1, $$2 }'

-include $(patsubst %.c,$(BUILD)/obj/%.d,$(C_FILES)) $(CLANG_OK:.ok=.d)
