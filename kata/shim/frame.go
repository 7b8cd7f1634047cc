package shim

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ttrpc's framing: https://github.com/containerd/ttrpc/blob/v1.2.7/PROTOCOL.md and channel.go there.
const (
	frameHeaderSize = 10      // length, stream id (32 bits each, big endian), type, flags
	framePayloadMax = 4 << 20 // messageLengthMax; a longer message ends its stream, not the connection

	frameRequest  = 1
	frameResponse = 2

	// keptBuffer is how large a reader's buffer may stay between frames. Nearly all messages are smaller; memory
	// for the others is given back.
	keptBuffer = 16 << 10
)

// frame is one ttrpc message, header included, as it is on the wire.
type frame []byte

func (f frame) length() uint32   { return binary.BigEndian.Uint32(f) }
func (f frame) streamID() uint32 { return binary.BigEndian.Uint32(f[4:]) }
func (f frame) kind() byte       { return f[8] }
func (f frame) flags() byte      { return f[9] }
func (f frame) payload() []byte  { return f[frameHeaderSize:] }

// oversized says that the frame's payload exceeded ttrpc's limit and was thrown away: only the header is there.
func (f frame) oversized() bool { return f.length() > framePayloadMax }

// newFrame returns a frame with this payload, which must not be longer than framePayloadMax.
func newFrame(streamID uint32, kind, flags byte, payload []byte) frame {
	f := make(frame, frameHeaderSize+len(payload))
	binary.BigEndian.PutUint32(f, uint32(len(payload)))
	binary.BigEndian.PutUint32(f[4:], streamID)
	f[8], f[9] = kind, flags
	copy(f[frameHeaderSize:], payload)
	return f
}

// frameReader splits a byte stream into frames.
type frameReader struct {
	r   *bufio.Reader
	buf []byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReader(r), buf: make([]byte, keptBuffer)}
}

// next returns the next whole frame. It is valid until the next call. At the end of the stream the error is io.EOF
// between frames and io.ErrUnexpectedEOF inside one.
func (r *frameReader) next() (frame, error) {
	head := r.buf[:frameHeaderSize]
	if _, err := io.ReadFull(r.r, head); err != nil {
		return nil, err
	}
	n := frame(head).length()
	if n > framePayloadMax {
		if _, err := io.CopyN(io.Discard, r.r, int64(n)); err != nil {
			return nil, fmt.Errorf("ttrpc message of %d bytes: %w", n, unexpected(err))
		}
		return frame(head), nil
	}
	f := frame(r.buf)
	if size := frameHeaderSize + int(n); size <= len(r.buf) {
		f = f[:size]
	} else {
		f = make(frame, size)
		copy(f, head)
	}
	if _, err := io.ReadFull(r.r, f.payload()); err != nil {
		return nil, unexpected(err)
	}
	return f, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
