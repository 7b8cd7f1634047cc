//go:build !linux

package volume

import "io"

// startWriteback does nothing where there is no sync_file_range(2).
func startWriteback(io.WriterAt, int64, int64) {}
