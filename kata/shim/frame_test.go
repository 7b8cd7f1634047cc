package shim

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestFramesArriveWholeAndInOrder(t *testing.T) {
	var wire bytes.Buffer
	sizes := []int{0, 1, keptBuffer - frameHeaderSize, keptBuffer, 1 << 20, framePayloadMax, 3}
	for i, n := range sizes {
		wire.Write(newFrame(uint32(2*i+1), frameRequest, byte(i), bytes.Repeat([]byte{byte(i)}, n)))
	}
	r := newFrameReader(iotest.HalfReader(&wire)) // frames come in pieces
	for i, n := range sizes {
		f, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if f.streamID() != uint32(2*i+1) || f.kind() != frameRequest || f.flags() != byte(i) ||
			!bytes.Equal(f.payload(), bytes.Repeat([]byte{byte(i)}, n)) {
			t.Errorf("frame %d came out different", i)
		}
	}
	if _, err := r.next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

func TestFrameCutOff(t *testing.T) {
	whole := newFrame(1, frameRequest, 0, []byte("payload"))
	for n := 1; n < len(whole); n++ {
		if _, err := newFrameReader(bytes.NewReader(whole[:n])).next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d bytes: %v, want unexpected EOF", n, err)
		}
	}
}

func TestFrameTooLongIsSkipped(t *testing.T) {
	long := newFrame(5, frameRequest, 0, make([]byte, framePayloadMax+1))
	wire := append(long, newFrame(7, frameRequest, 0, []byte("next"))...)
	r := newFrameReader(bytes.NewReader(wire))
	f, err := r.next()
	if err != nil || !f.oversized() || f.streamID() != 5 {
		t.Fatalf("%v, %v: want the header of stream 5", f, err)
	}
	if f, err = r.next(); err != nil || f.oversized() || string(f.payload()) != "next" {
		t.Fatalf("%v, %v: want the frame behind it", f, err)
	}
}

// FuzzFrames makes sure that what goes in comes out, byte for byte, and that nothing else does.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(newFrame(1, frameRequest, 0, []byte("one"))))
	f.Add([]byte(newFrame(1, frameRequest, 0, []byte("one")))[:12])
	f.Add([]byte(append(newFrame(3, frameResponse, 1, nil), newFrame(5, 3, 4, []byte{0})...)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0, 1, 2, 3})
	f.Fuzz(func(t *testing.T, wire []byte) {
		r := newFrameReader(bytes.NewReader(wire))
		var out []byte
		for {
			fr, err := r.next()
			if err != nil {
				break
			}
			if fr.oversized() {
				return // what is skipped cannot come out
			}
			out = append(out, fr...)
		}
		if !bytes.HasPrefix(wire, out) {
			t.Fatalf("in %x, out %x", wire, out)
		}
		if rest := wire[len(out):]; len(rest) >= frameHeaderSize &&
			uint64(len(rest)) >= frameHeaderSize+uint64(frame(rest).length()) {
			t.Fatalf("a whole frame was not read: %x", rest)
		}
	})
}
