# Dory's build. `make help` lists the targets; CONTRIBUTING.md explains the daily use.
#
# Variables (give them on the command line):
#   ARCH=amd64|arm64|armv7|riscv64   what to build for           (default: this machine)
#   SAN=asan|tsan                    build for this machine's libc with sanitizers (asan: address, undefined)
#   BUILD=dir                        where to build              (default: build/$(ARCH), build/host-$(SAN))
#   DEPS=dir                         the built dependencies      (default: build/deps)
#   T=word                           unit, e2e: only the tests whose name contains the word
#   CC_HOST=gcc|clang                compiler of SAN builds      (default: gcc)
#   STATIC_PIE=1                     link position independent (ASLR), 2 % larger
#   V=1                              show the commands

MAKEFLAGS += -rR --no-print-directory
SHELL := /bin/bash
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:

# The layers, lowest first: a folder under pkg/ may use those before it. tests/lint/layers reads this line.
LAYERS := base codec net schema store api client controllers scheduler runtime node cluster ingress kubectl web
# Exceptions to that rule: folders that may use only these.
runtime_MAY_USE := base codec net

# Folders compiled for size; all others for speed.
SMALL := kubectl web

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# --- what to build for ----------------------------------------------------------------------------

HOST_ARCH := $(patsubst x86_64,amd64,$(patsubst aarch64,arm64,$(patsubst armv7l,armv7,$(shell uname -m))))
ARCH ?= $(HOST_ARCH)
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

WARN := -Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith -Wwrite-strings \
	-Wundef -Wformat=2 -Wformat-nonliteral -Wno-unused-parameter -Wno-missing-field-initializers
CPPFLAGS_ALL := -Ipkg -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DNGHTTP2_STATICLIB -DYAML_DECLARE_STATIC
CFLAGS_ALL := -std=gnu17 -g -pipe -fstack-protector-strong -fno-strict-aliasing

ifeq ($(SAN),)
  VARIANT := $(ARCH)
  BUILD ?= build/$(ARCH)
  CC := $(DEPS)/$(VARIANT)/bin/cc
  AR := $(GNU)-gcc-ar
  OBJCOPY := $(GNU)-objcopy
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
  MALLOC := $(DEPS)/$(VARIANT)/lib/libmimalloc.a
  RUNNER := $(if $(filter $(ARCH),$(HOST_ARCH)),,$(QEMU_$(ARCH)))
else
  BUILD ?= build/host-$(SAN)
  CC := $(CC_HOST)
  AR := ar
  OBJCOPY := objcopy
  STRIP := strip
  SPEED := -O1
  SIZE := -O1
  CFLAGS_ALL += -fno-omit-frame-pointer -fPIE
  LDFLAGS_ALL := -pie
  MALLOC :=
  RUNNER :=
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
  say := @printf '  %-7s %s\n'
endif

# --- what there is to build -----------------------------------------------------------------------

rwildcard = $(foreach d,$(wildcard $(1)/*),$(call rwildcard,$(d),$(2))$(filter $(subst *,%,$(2)),$(d)))

PKGS := $(foreach p,$(LAYERS),$(if $(wildcard pkg/$(p)/.),$(p)))
UNKNOWN_PKGS := $(filter-out $(LAYERS),$(patsubst pkg/%/.,%,$(wildcard pkg/*/.)))
ifneq ($(UNKNOWN_PKGS),)
$(error pkg/$(firstword $(UNKNOWN_PKGS)) has no place in LAYERS, see Makefile)
endif

# The layers from a folder down to the lowest, highest first (the order a linker wants).
reverse = $(if $(1),$(call reverse,$(wordlist 2,99,$(1))) $(firstword $(1)))
upto = $(if $(filter $(1),$(firstword $(2))),$(1),$(if $(2),$(firstword $(2)) $(call upto,$(1),$(wordlist 2,99,$(2)))))
below = $(if $($(1)_MAY_USE),$(1) $(call reverse,$(filter $(PKGS),$($(1)_MAY_USE))),$(call reverse,$(filter $(PKGS),$(call upto,$(1),$(LAYERS)))))
archives = $(patsubst %,$(BUILD)/lib/%.a,$(1))

BIN := $(BUILD)/dory
DEPS_BUILT := $(SYS)/built

.PHONY: all
all: $(BIN) ## the binary build/$(ARCH)/dory (default); builds the dependencies first when lacking

# --- dependencies ---------------------------------------------------------------------------------

.PHONY: deps deps-all
deps: $(DEPS_BUILT) ## fetch the pinned sources and build them for ARCH (or SAN)

deps-all: ## the same for all four architectures and for the sanitizers
	+@DEPS='$(DEPS)' vendor-notes/deps.sh build amd64 arm64 armv7 riscv64 host host-tsan

# The stamp is touched when deps.sh finds nothing to do; "built" is newer only after a real build.
$(SYS)/stamp: vendor-notes/deps.sh vendor-notes/pins vendor-notes/mbedtls_user.h
	+@DEPS='$(DEPS)' vendor-notes/deps.sh build $(VARIANT)
$(DEPS_BUILT): $(SYS)/stamp ;

# --- compiling ------------------------------------------------------------------------------------

COMPILE = $(CCACHE) $(CC) $(CFLAGS_ALL) $(WARN) $(CPPFLAGS_ALL) $(CFLAGS) -MMD -MP

# Flags that came with the objects that are there; objects are made anew when they change.
FLAGS_FILE := $(BUILD)/flags
FLAGS_NOW := $(CC) $(CFLAGS_ALL) $(WARN) $(CPPFLAGS_ALL) $(CFLAGS) $(SPEED) $(SIZE)
ifneq ($(FLAGS_NOW),$(file <$(FLAGS_FILE)))
$(FLAGS_FILE): FORCE
endif
$(FLAGS_FILE):
	@mkdir -p $(@D)
	@printf '%s' '$(subst ','\'',$(FLAGS_NOW))' > $@
.PHONY: FORCE
FORCE:

opt = $(if $(filter $(SMALL),$(word 2,$(subst /, ,$(1)))),$(SIZE),$(SPEED))

$(BUILD)/obj/%.o: %.c $(DEPS_BUILT) $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(say) CC $<
	$(Q)$(COMPILE) $(call opt,$<) -c $< -o $@

$(BUILD)/obj/%.o: %.S $(DEPS_BUILT) $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(say) AS $<
	$(Q)$(CC) $(CFLAGS_ALL) $(CPPFLAGS_ALL) -c $< -o $@

# Files embedded in the archive of their folder, as read-only data between two symbols:
#   pkg/schema/files/*  concatenated in name order    schema_files_start, schema_files_end
#   pkg/P/embed/F       each by itself                embed_P_F_start, embed_P_F_end  (_ for non-alphanumerics)
# Each is followed by a NUL byte, which lies outside.
embeds = $(sort $(wildcard pkg/$(1)/embed/*))
schema_files := $(sort $(wildcard pkg/schema/files/*))

incbin = printf '\t.global %s_start\n\t.global %s_end\n\t.balign 16\n%s_start:\n\t.incbin "%s"\n%s_end:\n\t.byte 0\n' $(1) $(1) $(1) $(2) $(1)

$(BUILD)/gen/%/embed.S: Makefile
	@mkdir -p $(@D)
	@{ printf '\t.section .rodata.embed_$*,"a"\n'; \
	$(if $(filter schema,$*),$(if $(schema_files),$(call incbin,schema_files,$(BUILD)/gen/schema/files) ;)) \
	for f in $(call embeds,$*); do s=embed_$*_$$(basename "$$f" | tr -c 'A-Za-z0-9\n' _); \
		$(call incbin,"$$s","$$f"); done; \
	printf '\t.section .note.GNU-stack,"",%%progbits\n'; } > $@

$(BUILD)/gen/schema/files: $(schema_files)
	@mkdir -p $(@D)
	@cat $^ > $@

$(BUILD)/obj/gen/%/embed.o: $(BUILD)/gen/%/embed.S $(DEPS_BUILT)
	@mkdir -p $(@D)
	$(say) EMBED $*
	$(Q)$(CC) $(CFLAGS_ALL) -c $< -o $@

# The list of what goes into an archive is a file, so that a removed or added source makes it anew.
define PKG_RULES
$(1)_SRC := $$(call rwildcard,pkg/$(1),*.c)
$(1)_OBJ := $$(patsubst %.c,$(BUILD)/obj/%.o,$$($(1)_SRC))
$(1)_EMBEDS := $$(call embeds,$(1)) $(if $(filter schema,$(1)),$$(if $$(schema_files),$(BUILD)/gen/schema/files))
ifneq ($$(strip $$($(1)_EMBEDS)),)
$(1)_OBJ += $(BUILD)/obj/gen/$(1)/embed.o
$(BUILD)/obj/gen/$(1)/embed.o: $$($(1)_EMBEDS)
endif
ifneq ($$($(1)_OBJ) $$($(1)_EMBEDS),$$(file <$(BUILD)/lib/$(1).list))
$(BUILD)/lib/$(1).list: FORCE
$(BUILD)/gen/$(1)/embed.S: $(BUILD)/lib/$(1).list
endif
$(BUILD)/lib/$(1).list:
	@mkdir -p $$(@D)
	@printf '%s' '$$($(1)_OBJ) $$($(1)_EMBEDS)' > $$@
$(BUILD)/lib/$(1).a: $$($(1)_OBJ) $(BUILD)/lib/$(1).list
	@rm -f $$@
	$$(Q)$(AR) crs $$@ $$($(1)_OBJ)
.PHONY: $(1)
$(1): $(BUILD)/lib/$(1).a
ALL_OBJ += $$($(1)_OBJ)
endef
$(foreach p,$(PKGS),$(eval $(call PKG_RULES,$(p))))

# --- linking --------------------------------------------------------------------------------------

# $(call link,objects,archives,libraries before): mimalloc first, so that its malloc is the one.
link = $(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $(LDFLAGS) -o $@ $(1) $(MALLOC) $(2) $(3) $(DEP_LIBS) $(SYS_LIBS)

ALL_ARCHIVES := $(call archives,$(call reverse,$(PKGS)))
CMD_OBJ := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard cmd/dory/*.c))
ALL_OBJ += $(CMD_OBJ)

$(BUILD)/obj/cmd/dory/version.o: CPPFLAGS_ALL += -DDORY_VERSION='"$(VERSION)"'

$(BIN).debug: $(CMD_OBJ) $(ALL_ARCHIVES)
	$(if $(CMD_OBJ),,$(error there is no cmd/dory/*.c))
	$(say) LINK $@
	$(Q)$(call link,$(CMD_OBJ),$(ALL_ARCHIVES)) -Wl,-Map=$(BUILD)/dory.map

$(BIN): $(BIN).debug
	$(say) STRIP $@
	$(Q)$(STRIP) -s -R .comment -o $@ $<

.PHONY: libs
libs: $(ALL_ARCHIVES) ## all archives build/$(ARCH)/lib/*.a, without linking the binary

# --- tests ----------------------------------------------------------------------------------------

UNIT_SRC := $(call rwildcard,tests/unit,*/test_%.c)
UNIT_SRC := $(foreach f,$(call rwildcard,tests/unit,*.c),$(if $(filter test_%,$(notdir $(f))),$(f)))
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT_SRC))
UNIT_RUN := $(if $(T),$(foreach u,$(UNIT),$(if $(findstring $(T),$(u:$(BUILD)/unit/%=%)),$(u))),$(UNIT))

# A test of a folder is linked with it and what is below; one of tests/unit/cmd with everything.
define UNIT_RULES
$(BUILD)/unit/$(1): $(BUILD)/obj/tests/unit/$(1).o $(call archives,$(if $(filter $(firstword $(subst /, ,$(1))),$(PKGS)),$(call below,$(firstword $(subst /, ,$(1)))),$(call reverse,$(PKGS))))
	@mkdir -p $$(@D)
	$$(say) LINK $$@
	$$(Q)$$(call link,$$<,$$(filter %.a,$$^),$(DEP_LIBS_TEST))
ALL_OBJ += $(BUILD)/obj/tests/unit/$(1).o
endef
$(foreach u,$(UNIT),$(eval $(call UNIT_RULES,$(u:$(BUILD)/unit/%=%))))

TOOLS := $(patsubst tests/tools/%.c,$(BUILD)/tools/%,$(wildcard tests/tools/*.c))
$(BUILD)/tools/%: $(BUILD)/obj/tests/tools/%.o $(ALL_ARCHIVES)
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(call link,$<,$(filter %.a,$^))
ALL_OBJ += $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard tests/tools/*.c))

.PHONY: tools unit unit-build
tools: $(TOOLS) ## the helper programs of the tests
unit-build: $(UNIT)
unit: $(UNIT_RUN) ## build and run the unit tests; T=word for some, ARCH=... under qemu-user, SAN=asan|tsan
	@RUNNER='$(RUNNER)' tests/run.sh unit '$(BUILD)' $(UNIT_RUN)

# --- housekeeping ---------------------------------------------------------------------------------

.PHONY: clean distclean help
clean: ## remove what was built, except the dependencies
	rm -rf $(filter-out build/deps,$(wildcard build/*))

distclean: ## remove everything built and fetched
	rm -rf build

help: ## this list
	@sed -n '/^# Variables/,/^$$/s/^# \{0,1\}//p' Makefile
	@echo 'Targets:'
	@sed -n 's/^\([a-z0-9-]*\):.*## /  \1|/p' Makefile | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

-include $(ALL_OBJ:.o=.d)
