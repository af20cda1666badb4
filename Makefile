# SPDX-License-Identifier: MIT
#
# Hearth. `make run` sets everything up and answers a prompt; `make check` sets
# everything up and runs every test that needs no GPU; `make help` lists the
# rest.
#
# Variables:
#   O=DIR        where to build (default: build)
#   V=1          show commands
#   SAN=LIST     sanitizers, e.g. SAN=address,undefined (builds in O-san)
#   CC=, CFLAGS=, LDFLAGS=   yours come last
#   WERROR=1     warnings are errors (CI)
#   PREFIX=, DESTDIR=        for install (default /usr/local)
#   PROMPT=, MODEL=          for run
#   KDIR=DIR     kernel headers, for kmod (default: of the running kernel)
#   PEER=DIR     llama.cpp's binaries, for bench-peers
#   NVCC=        compiler of CUDA kernels, if any
#   DEPS=0       do not install missing packages

O ?= build
PREFIX ?= /usr/local
DESTDIR ?=
PROMPT ?= What is the capital of France?
MODEL ?= smollm2-135m-instruct
KDIR ?= /lib/modules/$(shell uname -r)/build
NVCC ?= $(firstword $(shell command -v nvcc 2>/dev/null) \
	$(wildcard /usr/local/cuda/bin/nvcc))
DEPS ?= 1
V ?= 0
SAN ?=
WERROR ?= $(if $(CI),1,0)
VERSION := 0.1.0
SOVERSION := 0

# Kernels are the same under a sanitizer, and take minutes to compile.
CUDA_O := $(O)
ifneq ($(SAN),)
override O := $(O)-san
endif
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@echo "  $(1)	$(2)";)

ARCH := $(shell uname -m)
PKGS := liburing libseccomp libcrypto libdrm
DRM_CFLAGS := $(shell pkg-config --cflags libdrm 2>/dev/null)
WARN := -Wall -Wextra -Wundef -Wshadow -Wvla -Wstrict-prototypes \
	-Wmissing-prototypes -Wdeclaration-after-statement \
	-Wimplicit-fallthrough -Wwrite-strings -Wpointer-arith \
	$(if $(filter 1,$(WERROR)),-Werror)
# _FORTIFY_SOURCE and the sanitizers do not mix.
HARDEN := -fstack-protector-strong -fPIE \
	$(if $(SAN),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
# Kernels give the same bits on every CPU level: no contraction, ever.
BASE := -std=gnu11 -g -O2 -ffp-contract=off -fno-strict-aliasing -pthread \
	-D_GNU_SOURCE -DHEARTH_VERSION=\"$(VERSION)\" -MMD -MP $(DRM_CFLAGS)
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all \
	-fno-omit-frame-pointer -DHEARTH_SANITIZE)
ALL_CFLAGS = $(BASE) $(WARN) $(HARDEN) $(SANFLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now -pthread $(SANFLAGS) $(LDFLAGS)
LIBS_D = -luring -lseccomp -lcrypto -ldrm $(LIBS_L)
LIBS_T = -lcurl -lcrypto -ljansson -ledit -lz -ldrm $(LIBS_L)
LIBS_L := -lutf8proc -lm
LIBS_V = -Wl,--as-needed -ldrm

KERNEL_SRC := $(wildcard kernels/*.c kernels/ref/*.c kernels/cuda/*.c)
ifeq ($(ARCH),x86_64)
KERNEL_SRC += $(wildcard kernels/x86/*.c)
endif
DAEMON_SRC := $(filter-out daemon/main.c,$(wildcard daemon/*.c daemon/arch/*.c \
	daemon/cpu/*.c daemon/cuda/*.c))
CLIENT_SRC := $(wildcard libclient/*.c)
TOOL_SRC := $(wildcard tools/hearth/*.c)
CHECKS := $(patsubst tests/%.c,%,$(wildcard tests/check_*.c))
CUDA_CHECKS := $(filter check_cuda%,$(CHECKS))
VM_TESTS := $(patsubst tests/vm/%.c,%,$(wildcard tests/vm/t_*.c))
HELPERS := $(patsubst tests/%.c,%,$(wildcard tests/t_*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
CUDASIM := $(O)/tests/cudasim/libcuda.so.1
CUDASIM_SRC := $(wildcard tests/cudasim/*.c)
CUDASIM_CU := $(wildcard tests/cudasim/kernels/*.cu)
# Without a compiler the simulator is built, and its tests skip.
CUDASIM_PTX := $(if $(NVCC),$(patsubst tests/cudasim/kernels/%.cu,\
	$(O)/tests/cudasim/%.ptx,$(CUDASIM_CU)) $(O)/tests/cudasim/warp.fatbin)
CUDA_CU := $(wildcard kernels/cuda/*.cu)
CUDA_BIN := $(if $(NVCC),$(CUDA_CU:%.cu=$(CUDA_O)/%.fatbin))
EXAMPLES := $(patsubst libclient/examples/%.c,%,$(wildcard \
	libclient/examples/*.c))

obj = $(patsubst %.c,$(O)/%.o,$(1))
BINS := $(O)/hearthd $(O)/hearth $(O)/libhearth.so.$(VERSION) $(O)/libhearth.a

##@ Everyday
all: $(BINS) ## build everything (the default)

# A fresh machine has no compiler before deps: these build in a make of their own.
JOBS := -j$(shell nproc)
run: deps ## set up, fetch the default model, answer PROMPT=
	$(Q)$(MAKE) --no-print-directory $(JOBS) all
	$(Q)O=$(O) tests/run-model.sh "$(MODEL)" "$(PROMPT)"

check: deps-test ## every test that needs no GPU
	$(Q)$(MAKE) --no-print-directory $(JOBS) all bins-tests
	$(Q)O=$(O) tests/run.sh check

check-long: deps-test ## long fuzzing, kill storms, all variants
	$(Q)$(MAKE) --no-print-directory $(JOBS) all bins-tests
	$(Q)O=$(O) tests/run.sh long

bench: deps-test all bins-tests ## kernels, rings and a model on this machine
	$(Q)O=$(O) tests/bench.sh

deps: ## install what is missing, through apt
ifneq ($(DEPS),0)
	$(Q)tests/deps.sh
endif
deps-test: ## and what the tests need on top
ifneq ($(DEPS),0)
	$(Q)tests/deps.sh test
endif

kmod: ## the kernel module, O/kmod/src/kmod/hearth.ko, for KDIR=
	$(Q)mkdir -p $(O)/kmod/src
	$(Q)cp -rpu Kbuild kmod $(O)/kmod/src/
	$(Q)env -u O -u MAKEFLAGS $(MAKE) -C $(KDIR) M=$(abspath $(O)/kmod/src) W=1 \
		modules

help: ## this text
	$(Q)awk -f tests/help.awk $(firstword $(MAKEFILE_LIST))

##@ Parts of check
check-unit: all bins-tests ## unit tests, module by module
	$(Q)O=$(O) tests/run.sh unit
check-kernels: all bins-tests ## every kernel slot against plain C
	$(Q)$(O)/tests/check_kernels
check-cuda: $(CUDASIM) $(CUDASIM_PTX) $(CUDA_CHECKS:%=$(O)/tests/%) ## CUDA kernels in the simulator
	$(Q)O=$(O) tests/run.sh cuda
check-e2e: all bins-tests ## the real binaries, end to end
	$(Q)O=$(O) tests/run.sh e2e
check-vm: deps-test ## module, pool and survival in QEMU, on two kernels
	$(Q)$(MAKE) --no-print-directory $(JOBS) all bins-tests
	$(Q)O=$(O) tests/run.sh vm
check-vm-long: deps-test ## the module on a debug kernel, built on first use
	$(Q)$(MAKE) --no-print-directory $(JOBS) all bins-tests
	$(Q)O=$(O) tests/run.sh vm-long
check-gpu: all bins-tests ## kernels, sanitizers and the daemon on a GPU
	$(Q)O=$(O) tests/gpu/check.sh
gpu-kit: all bins-tests ## what check-gpu and bench-gpu run, packed for another machine
	$(Q)O=$(O) tests/gpu/kit.sh
check-fuzz: fuzz ## each fuzz target for a minute
	$(Q)O=$(O) tests/run.sh fuzz
check-san: deps-test ## unit and end-to-end tests under ASan and UBSan
	$(Q)$(MAKE) --no-print-directory SAN=address,undefined DEPS=0 check-san-in
check-san-in: all bins-tests
	$(Q)O=$(O) tests/run.sh san
check-install: all ## install, use, uninstall: nothing stays
	$(Q)O=$(O) tests/e2e/install.sh

##@ Comparisons (need Python packages, fetched on demand)
check-parity: deps-test all bins-tests ## errors against float64, beside llama.cpp
	$(Q)O=$(O) tests/parity/run.sh
check-bits: deps-test all bins-tests ## equal logits in every batch, chunk, level
	$(Q)$(O)/tests/t_bits
bench-peers: deps all ## decode and prefill beside llama.cpp (PEER=DIR)
	$(Q)O=$(O) PEER="$(PEER)" tests/bench-peers.sh
bench-load: all $(O)/tests/t_read $(O)/tests/t_hash ## loads from a cold cache beside plain reading
	$(Q)O=$(O) tests/bench-load.sh
bench-gpu: all $(O)/tests/t_mkgguf ## a GPU, and models on it beside llama.cpp (PEER=DIR)
	$(Q)O=$(O) PEER="$(PEER)" tests/gpu/bench.sh
bench-ipc: all $(O)/tests/t_mkgguf ## rings beside a unix socket
	$(Q)O=$(O) tests/bench-ipc.sh

##@ House
fmt: ## format C sources in place
	$(Q)clang-format -i $$(git ls-files '*.c' '*.h')
fmt-check: ## fail if fmt would change something
	$(Q)clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h')
lint: ## static analysis and house rules
	$(Q)O=$(O) tests/lint.sh
clean: ## remove what was built
	$(Q)rm -rf $(O) $(O)-san

# ---------------------------------------------------------------- building
# A change of flags rebuilds everything.
FLAGS := $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS)
$(O)/.flags: FORCE
	$(Q)mkdir -p $(O)
	$(Q)echo '$(FLAGS)' | cmp -s - $@ || echo '$(FLAGS)' > $@
FORCE:

$(O)/%_avx2.o: EXTRA := -mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt
$(O)/%_avx512.o: EXTRA := -mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt \
	-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
$(O)/kernels/%.o: EXTRA2 := -O3
$(O)/libclient/%.o: EXTRA2 := -fPIC -fvisibility=hidden -Ilibclient/include
$(O)/tools/%.o $(O)/tests/%.o: EXTRA2 := -Ilibclient/include
$(O)/tests/cudasim/%.o: EXTRA2 := -fPIC -fvisibility=hidden -fwrapv
# NVIDIA's header is compared with, where there is one, and used by nothing.
$(O)/tests/check_cuda_abi.o: EXTRA := $(if $(NVCC),-isystem \
	$(patsubst %/bin/nvcc,%/include,$(realpath $(NVCC))))

$(O)/%.o: %.c $(O)/.flags
	$(Q)mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(BASE) $(WARN) $(HARDEN) $(SANFLAGS) \
		$(EXTRA2) $(EXTRA) $(CFLAGS) -c -o $@ $<

# Machine code for the cards there are, and PTX that newer ones compile. The
# bits are the CPU's: a product and a sum are contracted where the source says.
CUDA_ARCH := 80 86 89 90a 120
CUDA_PTX := 90
# PTX of 90a runs on no other chip; what the others get of it is an empty kernel.
$(CUDA_O)/kernels/cuda/gemm_sm90.fatbin: CUDA_PTX := 80 90a
NVCC_FLAGS = -std=c++17 -O3 -fmad=false -prec-div=true -prec-sqrt=true -ftz=false \
	--fatbin --compress-mode=none -Xcudafe --display_error_number \
	$(foreach a,$(CUDA_ARCH),-gencode arch=compute_$(a),code=sm_$(a)) \
	$(foreach a,$(CUDA_PTX),-gencode arch=compute_$(a),code=compute_$(a))
$(CUDA_O)/kernels/cuda/%.fatbin: kernels/cuda/%.cu tests/nvcc.sh
	$(Q)mkdir -p $(@D)
	$(call say,NVCC,$<)tests/nvcc.sh "$(NVCC)" $@ $< $(NVCC_FLAGS)
# What holds it in the programs; empty without a compiler.
$(O)/kernels/cuda/code.S: $(CUDA_BIN) $(CUDA_CU)
	$(Q)mkdir -p $(@D)
	$(Q){ echo '.section .note.GNU-stack,"",%progbits'; \
	for f in $(CUDA_CU:kernels/cuda/%.cu=%); do \
		echo ".section .rodata.cu_$$f, \"a\""; \
		echo ".balign 64"; \
		echo ".globl cu_$${f}_begin, cu_$${f}_end"; \
		echo "cu_$${f}_begin:"; \
		$(if $(NVCC),echo ".incbin \"$(CUDA_O)/kernels/cuda/$$f.fatbin\"";) \
		echo "cu_$${f}_end: .byte 0"; \
	done; } > $@
$(O)/kernels/cuda/code.o: $(O)/kernels/cuda/code.S
	$(call say,AS,$@)$(CC) -c -o $@ $<

$(O)/libkernels.a: $(call obj,$(KERNEL_SRC)) $(O)/kernels/cuda/code.o
	$(Q)rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $^
$(O)/libdaemon.a: $(call obj,$(DAEMON_SRC))
	$(Q)rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $^
$(O)/libhearth.a: $(call obj,$(CLIENT_SRC))
	$(Q)rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $^
$(O)/libtool.a: $(call obj,$(filter-out %/main.c,$(TOOL_SRC)))
	$(Q)rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $^
$(O)/libhearth.so.$(VERSION): $(call obj,$(CLIENT_SRC)) libclient/libhearth.map
	$(call say,LD,$@)$(CC) -shared -o $@ $(call obj,$(CLIENT_SRC)) \
		-Wl,-soname,libhearth.so.$(SOVERSION) \
		-Wl,--version-script=libclient/libhearth.map \
		$(if $(SAN),,-Wl$(comma)-z$(comma)defs) -Wl,-z,relro,-z,now \
		-pthread $(SANFLAGS) $(LDFLAGS) $(LIBS_L)
	$(Q)ln -sf $(@F) $(O)/libhearth.so.$(SOVERSION)
	$(Q)ln -sf $(@F) $(O)/libhearth.so
comma := ,

D_LIBS := $(O)/libdaemon.a $(O)/libkernels.a $(O)/libhearth.a
$(O)/hearthd: $(O)/daemon/main.o $(D_LIBS)
	$(call say,LD,$@)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(LIBS_D)
# Of the daemon and the kernels it has what finds devices, what they are measured
# with, and what says how large a model is.
$(O)/hearth: $(call obj,$(TOOL_SRC)) $(D_LIBS)
	$(call say,LD,$@)$(CC) -o $@ $^ -Wl,--gc-sections $(ALL_LDFLAGS) $(LIBS_T)

bins-tests: $(CHECKS:%=$(O)/tests/%) $(HELPERS:%=$(O)/tests/%) \
	$(VM_TESTS:%=$(O)/tests/vm/%) $(CUDASIM) $(CUDASIM_PTX) \
	$(EXAMPLES:%=$(O)/examples/%)
$(O)/tests/check_%: $(O)/tests/check_%.o $(O)/libtool.a $(D_LIBS)
	$(call say,LD,$@)$(CC) -o $@ $^ $(ALL_LDFLAGS) -lcheck -lsubunit -lrt \
		$(LIBS_D) $(LIBS_T)
$(O)/tests/t_%: $(O)/tests/t_%.o $(D_LIBS)
	$(call say,LD,$@)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(LIBS_D)
$(O)/tests/vm/t_dma: LIBS_V := -ldrm
# Programs for the guest, which know the kernel and no part of Hearth.
$(O)/tests/vm/t_%: $(O)/tests/vm/t_%.o
	$(call say,LD,$@)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(LIBS_V)
# A driver for machines without a GPU; nothing of Hearth is in it.
$(CUDASIM): $(call obj,$(CUDASIM_SRC))
	$(call say,LD,$@)$(CC) -shared -o $@ $^ -Wl,-soname,$(@F) \
		$(if $(SAN),,-Wl$(comma)-z$(comma)defs) -Wl,-z,relro,-z,now \
		-pthread $(SANFLAGS) $(LDFLAGS) -lm
NVFLAGS = -O3 -gencode arch=compute_90a,code=compute_90a
$(O)/tests/cudasim/%.ptx: tests/cudasim/kernels/%.cu \
		tests/cudasim/kernels/ptx.cuh
	$(Q)mkdir -p $(@D)
	$(call say,NVCC,$<)$(NVCC) $(NVFLAGS) -ptx -o $@ $<
$(O)/tests/cudasim/%.fatbin: tests/cudasim/kernels/%.cu \
		tests/cudasim/kernels/ptx.cuh
	$(Q)mkdir -p $(@D)
	$(call say,NVCC,$<)$(NVCC) $(NVFLAGS) -fatbin --compress-mode=none -o $@ $<
$(O)/examples/%: libclient/examples/%.c $(O)/libhearth.a
	$(Q)mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(BASE) $(WARN) $(HARDEN) $(SANFLAGS) $(CFLAGS) \
		-Ilibclient/include -o $@ $^ $(ALL_LDFLAGS) $(LIBS_L)

# Fuzz targets: everything they use, built by clang with coverage.
FUZZ_CC ?= clang
FUZZ_FLAGS := -std=gnu11 -g -O1 -ffp-contract=off -fno-strict-aliasing \
	-D_GNU_SOURCE -DHEARTH_VERSION=\"$(VERSION)\" -DHEARTH_FUZZ -pthread \
	-Ilibclient/include $(DRM_CFLAGS) -MMD -MP -w
FUZZ_SAN := -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=all
FUZZ_OBJ := $(patsubst %.c,$(O)/fuzz/%.o,$(KERNEL_SRC) $(DAEMON_SRC) \
	$(CLIENT_SRC))
$(O)/fuzz/%_avx2.o: EXTRA := -mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt
$(O)/fuzz/%_avx512.o: EXTRA := -mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt \
	-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
# Kernels are not what is fuzzed, and instrumented they compile for minutes.
$(O)/fuzz/kernels/%.o: FUZZ_SAN :=
$(O)/fuzz/%.o: %.c
	$(Q)mkdir -p $(@D)
	$(call say,FUZZCC,$<)$(FUZZ_CC) $(FUZZ_FLAGS) $(FUZZ_SAN) $(EXTRA) -c -o $@ $<
$(O)/fuzz/libfuzz.a: $(FUZZ_OBJ) $(O)/kernels/cuda/code.o
	$(Q)rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $^
$(O)/fuzz/fuzz_%: $(O)/fuzz/tests/fuzz/fuzz_%.o $(O)/fuzz/libfuzz.a
	$(call say,LD,$@)$(FUZZ_CC) -fsanitize=fuzzer,address,undefined \
		-pthread -o $@ $^ $(LIBS_D)
fuzz: $(FUZZERS:%=$(O)/fuzz/%)

##@ Installing
install: all ## into DESTDIR and PREFIX
	$(Q)DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" O=$(O) VERSION=$(VERSION) \
		SOVERSION=$(SOVERSION) tests/install.sh install
uninstall: ## remove what install put there
	$(Q)DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" O=$(O) VERSION=$(VERSION) \
		SOVERSION=$(SOVERSION) tests/install.sh uninstall

.PHONY: all run kmod check check-long bench deps deps-test help check-unit check-kernels \
	check-cuda check-gpu gpu-kit \
	check-e2e check-vm check-vm-long check-fuzz check-san check-san-in \
	check-install check-parity check-bits bench-peers bench-load bench-gpu bench-ipc fmt fmt-check lint clean bins-tests \
	fuzz install uninstall FORCE
.SECONDARY:
-include $(shell find $(O) -path $(O)/vm -prune -o -name '*.d' -print 2>/dev/null)
