#include "textflag.h"

// Registers: X1, X2 and X3, X4 the states (ABEF, CDGH) of the two messages; X5 to X8 and X9 to X12 their last 16 words;
// X0 words and constants of the running rounds; X13, X14 scratch; X15 the byte swap. The instructions are those of Intel's
// Software Developer's Manual, volume 2; the names of the words those of FIPS 180-4, section 6.2.2.

// One group of four rounds, of both messages: words W+K into X0, two rounds each.
// SHA256RNDS2 takes W+K of two rounds from the low half of X0.
#define ROUNDS(k, w, abef, cdgh) \
	MOVOU (k*16)(R8), X0 \
	PADDD w, X0          \
	SHA256RNDS2 X0, abef, cdgh \
	PSHUFD $0x0E, X0, X0 \
	SHA256RNDS2 X0, cdgh, abef

// W[t..t+3] = σ1(W[t-2]) + W[t-7] + σ0(W[t-15]) + W[t-16], in w4, which has W[t-16..t-13]; w3 is the next one, w1 the last.
#define SCHEDULE(w4, w3, w2, w1, tmp) \
	MOVO w1, tmp         \
	PALIGNR $4, w2, tmp  \
	SHA256MSG1 w3, w4    \
	PADDD tmp, w4        \
	SHA256MSG2 w1, w4

#define LOAD(off, w, p) \
	MOVOU off(p), w \
	PSHUFB X15, w

#define BOTH(k, wa, wb) \
	ROUNDS(k, wa, X1, X2) \
	ROUNDS(k, wb, X3, X4)

#define NEXT(k, a4, a3, a2, a1, b4, b3, b2, b1) \
	SCHEDULE(a4, a3, a2, a1, X13) \
	SCHEDULE(b4, b3, b2, b1, X14) \
	BOTH(k, a4, b4)

// func compress2(a, b *state, p, q *byte, blocks int, k *[64]uint32, swap *[16]byte)
TEXT ·compress2(SB), NOSPLIT, $0-56
	MOVQ a+0(FP), AX
	MOVQ b+8(FP), BX
	MOVQ p+16(FP), SI
	MOVQ q+24(FP), DI
	MOVQ blocks+32(FP), CX
	MOVQ k+40(FP), R8
	MOVQ swap+48(FP), R9
	MOVOU (R9), X15
	MOVOU 0(AX), X1
	MOVOU 16(AX), X2
	MOVOU 0(BX), X3
	MOVOU 16(BX), X4

loop:
	LOAD(0, X5, SI)
	LOAD(0, X9, DI)
	BOTH(0, X5, X9)
	LOAD(16, X6, SI)
	LOAD(16, X10, DI)
	BOTH(1, X6, X10)
	LOAD(32, X7, SI)
	LOAD(32, X11, DI)
	BOTH(2, X7, X11)
	LOAD(48, X8, SI)
	LOAD(48, X12, DI)
	BOTH(3, X8, X12)
	NEXT(4, X5, X6, X7, X8, X9, X10, X11, X12)
	NEXT(5, X6, X7, X8, X5, X10, X11, X12, X9)
	NEXT(6, X7, X8, X5, X6, X11, X12, X9, X10)
	NEXT(7, X8, X5, X6, X7, X12, X9, X10, X11)
	NEXT(8, X5, X6, X7, X8, X9, X10, X11, X12)
	NEXT(9, X6, X7, X8, X5, X10, X11, X12, X9)
	NEXT(10, X7, X8, X5, X6, X11, X12, X9, X10)
	NEXT(11, X8, X5, X6, X7, X12, X9, X10, X11)
	NEXT(12, X5, X6, X7, X8, X9, X10, X11, X12)
	NEXT(13, X6, X7, X8, X5, X10, X11, X12, X9)
	NEXT(14, X7, X8, X5, X6, X11, X12, X9, X10)
	NEXT(15, X8, X5, X6, X7, X12, X9, X10, X11)
	MOVOU 0(AX), X13
	PADDD X13, X1
	MOVOU 16(AX), X13
	PADDD X13, X2
	MOVOU 0(BX), X13
	PADDD X13, X3
	MOVOU 16(BX), X13
	PADDD X13, X4
	MOVOU X1, 0(AX)
	MOVOU X2, 16(AX)
	MOVOU X3, 0(BX)
	MOVOU X4, 16(BX)
	ADDQ $64, SI
	ADDQ $64, DI
	DECQ CX
	JNZ loop
	RET

// func hasSHA() bool
// CPUID leaf 7, subleaf 0: bit 29 of EBX (Intel SDM, volume 2, CPUID). All processors with SSSE3 answer to leaf 0.
TEXT ·hasSHA(SB), NOSPLIT, $0-1
	MOVB $0, ret+0(FP)
	XORL AX, AX
	XORL CX, CX
	CPUID
	CMPL AX, $7
	JB   done
	MOVL $7, AX
	XORL CX, CX
	CPUID
	SHRL $29, BX
	ANDL $1, BX
	MOVB BX, ret+0(FP)

done:
	RET
