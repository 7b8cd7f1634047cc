package install

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
)

// GuestHas tells whether the guest's image or initrd, as the configuration names it, has a text in one of its files:
// such as one that a program in it writes. An initrd may be compressed with gzip; in files that are compressed otherwise
// nothing is found.
func (r *Runtime) GuestHas(text string) (found bool, file string, err error) {
	config, err := r.qemu()
	if err != nil {
		return false, "", err
	}
	if file = config.Initrd; file == "" {
		file = config.Image
	}
	f, err := os.Open(file)
	if err != nil {
		return false, "", fmt.Errorf("the guest's files: %w", err)
	}
	defer f.Close()
	content := bufio.NewReader(f)
	var stream io.Reader = content
	if magic, err := content.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b { // RFC 1952
		if stream, err = gzip.NewReader(content); err != nil {
			return false, "", fmt.Errorf("the guest's files: %s: %w", file, err)
		}
	}
	if found, err = contains(stream, []byte(text)); err != nil {
		err = fmt.Errorf("the guest's files: %s: %w", file, err)
	}
	return found, file, err
}

// contains tells whether a stream has a text in it.
func contains(r io.Reader, text []byte) (bool, error) {
	buffer := make([]byte, 1<<20)
	kept := 0 // the end of what was read before, in which the text may begin
	for {
		n, err := r.Read(buffer[kept:])
		read := buffer[:kept+n]
		if bytes.Contains(read, text) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		kept = copy(buffer, read[max(0, len(read)-len(text)+1):])
	}
}
