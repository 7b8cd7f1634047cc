package erofs

import (
	"bytes"
	"errors"
	"io"
)

// MemoryData is a DataWriter that keeps everything.
type MemoryData struct {
	bytes.Buffer
	room []byte
}

func (m *MemoryData) Room(n int) []byte {
	m.room = bytes.Repeat([]byte("?"), n)
	return m.room
}

func (m *MemoryData) Advance(n int) error {
	_, err := m.Write(m.room[:n])
	return err
}

func (m *MemoryData) Same(block uint32, blocks []byte) (bool, error) {
	start := (int(block) - 1) * BlockSize
	return bytes.Equal(m.Bytes()[start:start+len(blocks)], blocks), nil
}

// discardData is a DataWriter for layers of which no two files can be equal.
type discardData struct {
	io.Writer
	room [MaxShared]byte
}

func (d *discardData) Room(n int) []byte                 { return d.room[:n] }
func (d *discardData) Advance(int) error                 { return nil }
func (d *discardData) Same(uint32, []byte) (bool, error) { return false, errors.New("nothing is kept") }
