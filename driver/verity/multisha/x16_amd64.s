#include "textflag.h"

// Sixteen messages side by side: every register has one 32-bit word of each of them. Registers: Z0 to Z7 the state, a to
// h; Z8 to Z23 the last 16 words of the message schedule, W; Z24 to Z31 scratch. Words and functions are named as in
// FIPS 180-4, sections 4.1.2 and 6.2.2; the instructions are those of Intel's Software Developer's Manual, volume 2.
// VPTERNLOGD's constants are truth tables: 0x96 x⊕y⊕z, 0xCA Ch, 0xE8 Maj.

// T1 = h + K[t] + W[t] + Σ1(e) + Ch(e,f,g); d += T1; h = T1 + Σ0(a) + Maj(a,b,c): the next round calls d e, and h a.
#define ROUND(t, w, a, b, c, d, e, f, g, h) \
	VPADDD.BCST ((t)*4)(R8), w, Z24 \
	VPRORD $6, e, Z25               \
	VPRORD $11, e, Z26              \
	VPRORD $25, e, Z27              \
	VMOVDQA32 e, Z28                \
	VPADDD Z24, h, h                \
	VPTERNLOGD $0x96, Z25, Z26, Z27 \
	VPTERNLOGD $0xCA, g, f, Z28     \
	VPADDD Z28, h, h                \
	VPRORD $2, a, Z29               \
	VPRORD $13, a, Z30              \
	VPRORD $22, a, Z31              \
	VMOVDQA32 a, Z24                \
	VPADDD Z27, h, h                \
	VPTERNLOGD $0x96, Z29, Z30, Z31 \
	VPTERNLOGD $0xE8, c, b, Z24     \
	VPADDD h, d, d                  \
	VPADDD Z24, Z31, Z31            \
	VPADDD Z31, h, h

// W[t] = σ1(W[t-2]) + W[t-7] + σ0(W[t-15]) + W[t-16], in w16, which has W[t-16].
#define SCHEDULE(w16, w15, w7, w2) \
	VPRORD $7, w15, Z24             \
	VPRORD $18, w15, Z25            \
	VPSRLD $3, w15, Z26             \
	VPRORD $17, w2, Z27             \
	VPRORD $19, w2, Z28             \
	VPSRLD $10, w2, Z29             \
	VPADDD w7, w16, w16             \
	VPTERNLOGD $0x96, Z24, Z25, Z26 \
	VPTERNLOGD $0x96, Z27, Z28, Z29 \
	VPADDD Z26, w16, w16            \
	VPADDD Z29, w16, w16

#define EIGHT_ROUNDS(t, w0, w1, w2, w3, w4, w5, w6, w7) \
	ROUND(t+0, w0, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7) \
	ROUND(t+1, w1, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6) \
	ROUND(t+2, w2, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5) \
	ROUND(t+3, w3, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4) \
	ROUND(t+4, w4, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3) \
	ROUND(t+5, w5, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2) \
	ROUND(t+6, w6, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1) \
	ROUND(t+7, w7, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0)

#define SIXTEEN_ROUNDS \
	EIGHT_ROUNDS(0, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15) \
	EIGHT_ROUNDS(8, Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23)

// The next 64 bytes of message i, as words.
#define LOAD(i, row) \
	MOVQ (i*8)(SI), AX       \
	VMOVDQU32 (AX)(DX*1), row \
	VPSHUFB Z31, row, row

// Four messages' words: rN has words N, N+4, N+8 and N+12 of all four then.
#define TRANSPOSE_WORDS(r0, r1, r2, r3) \
	VPUNPCKLDQ r1, r0, Z24  \
	VPUNPCKHDQ r1, r0, Z25  \
	VPUNPCKLDQ r3, r2, Z26  \
	VPUNPCKHDQ r3, r2, Z27  \
	VPUNPCKLQDQ Z26, Z24, r0 \
	VPUNPCKHQDQ Z26, Z24, r1 \
	VPUNPCKLQDQ Z27, Z25, r2 \
	VPUNPCKHQDQ Z27, Z25, r3

// The same word N of the four groups of four messages: rN has word 4N, or 4N+1 and so on, of all sixteen then.
#define TRANSPOSE_GROUPS(r0, r1, r2, r3) \
	VSHUFI32X4 $0x88, r1, r0, Z24   \
	VSHUFI32X4 $0xDD, r1, r0, Z25   \
	VSHUFI32X4 $0x88, r3, r2, Z26   \
	VSHUFI32X4 $0xDD, r3, r2, Z27   \
	VSHUFI32X4 $0x88, Z26, Z24, r0  \
	VSHUFI32X4 $0x88, Z27, Z25, r1  \
	VSHUFI32X4 $0xDD, Z26, Z24, r2  \
	VSHUFI32X4 $0xDD, Z27, Z25, r3

#define ADD(i, s) \
	VPADDD (i*64)(DI), s, s \
	VMOVDQU32 s, (i*64)(DI)

// func compress16(s *[8][16]uint32, p *[16]*byte, blocks int, k *[64]uint32, swap *[16]byte)
TEXT ·compress16(SB), NOSPLIT, $0-40
	MOVQ s+0(FP), DI
	MOVQ p+8(FP), SI
	MOVQ blocks+16(FP), CX
	MOVQ k+24(FP), R9
	MOVQ swap+32(FP), R10
	XORQ DX, DX
	VMOVDQU32 (0*64)(DI), Z0
	VMOVDQU32 (1*64)(DI), Z1
	VMOVDQU32 (2*64)(DI), Z2
	VMOVDQU32 (3*64)(DI), Z3
	VMOVDQU32 (4*64)(DI), Z4
	VMOVDQU32 (5*64)(DI), Z5
	VMOVDQU32 (6*64)(DI), Z6
	VMOVDQU32 (7*64)(DI), Z7

block:
	VBROADCASTI32X4 (R10), Z31
	LOAD(0, Z8)
	LOAD(1, Z9)
	LOAD(2, Z10)
	LOAD(3, Z11)
	LOAD(4, Z12)
	LOAD(5, Z13)
	LOAD(6, Z14)
	LOAD(7, Z15)
	LOAD(8, Z16)
	LOAD(9, Z17)
	LOAD(10, Z18)
	LOAD(11, Z19)
	LOAD(12, Z20)
	LOAD(13, Z21)
	LOAD(14, Z22)
	LOAD(15, Z23)
	TRANSPOSE_WORDS(Z8, Z9, Z10, Z11)
	TRANSPOSE_WORDS(Z12, Z13, Z14, Z15)
	TRANSPOSE_WORDS(Z16, Z17, Z18, Z19)
	TRANSPOSE_WORDS(Z20, Z21, Z22, Z23)
	TRANSPOSE_GROUPS(Z8, Z12, Z16, Z20)
	TRANSPOSE_GROUPS(Z9, Z13, Z17, Z21)
	TRANSPOSE_GROUPS(Z10, Z14, Z18, Z22)
	TRANSPOSE_GROUPS(Z11, Z15, Z19, Z23)
	MOVQ R9, R8
	SIXTEEN_ROUNDS
	MOVQ $3, BX

rounds:
	ADDQ $64, R8
	SCHEDULE(Z8, Z9, Z17, Z22)
	SCHEDULE(Z9, Z10, Z18, Z23)
	SCHEDULE(Z10, Z11, Z19, Z8)
	SCHEDULE(Z11, Z12, Z20, Z9)
	SCHEDULE(Z12, Z13, Z21, Z10)
	SCHEDULE(Z13, Z14, Z22, Z11)
	SCHEDULE(Z14, Z15, Z23, Z12)
	SCHEDULE(Z15, Z16, Z8, Z13)
	EIGHT_ROUNDS(0, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)
	SCHEDULE(Z16, Z17, Z9, Z14)
	SCHEDULE(Z17, Z18, Z10, Z15)
	SCHEDULE(Z18, Z19, Z11, Z16)
	SCHEDULE(Z19, Z20, Z12, Z17)
	SCHEDULE(Z20, Z21, Z13, Z18)
	SCHEDULE(Z21, Z22, Z14, Z19)
	SCHEDULE(Z22, Z23, Z15, Z20)
	SCHEDULE(Z23, Z8, Z16, Z21)
	EIGHT_ROUNDS(8, Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23)
	DECQ BX
	JNZ rounds
	ADD(0, Z0)
	ADD(1, Z1)
	ADD(2, Z2)
	ADD(3, Z3)
	ADD(4, Z4)
	ADD(5, Z5)
	ADD(6, Z6)
	ADD(7, Z7)
	ADDQ $64, DX
	DECQ CX
	JNZ block
	VZEROUPPER
	RET
