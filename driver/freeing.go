package driver

import (
	"os"
	"sync"
)

// freeAtOnce is the size of files of which the blocks are freed within a millisecond or so.
const freeAtOnce = 16 << 20

// freeing frees the blocks of removed files in the background. For a large file that takes a file system 0.1 s and more
// for a gigabyte, most of it for what is of the file in memory; whoever removes the last name of a closed file waits for
// it, and here all others with him, because the store is locked. So the file is open when its last name goes, and the
// blocks are freed when it is closed: by a goroutine, or by the kernel if the process ends, or by the file system's
// journal after a power failure. Nothing of it is left for us to clear away.
type freeing struct {
	mu   sync.Mutex
	last chan struct{} // closed when the last file is free, and so all are; nil: there was none
}

// close closes a file that has no name any more. Its directory should be gone, too: the kernel has rmdir(2) wait until
// no name in it is being freed (shrink_dcache_parent in fs/dcache.c). It takes nil.
func (f *freeing) close(file *os.File) {
	if file == nil {
		return
	}
	done := make(chan struct{})
	f.mu.Lock()
	before := f.last
	f.last = done
	f.mu.Unlock()
	go func() {
		defer close(done)
		if before != nil {
			<-before // one file at a time: each takes a thread
		}
		if err := file.Close(); err != nil {
			log.WithField(fieldPath, file.Name()).WithError(err).Warn("Freeing the blocks of a removed file failed")
		}
	}()
}

// openLarge opens a file that takes long to free; nil if it is none, or cannot be opened.
func openLarge(path string) *os.File {
	fi, err := os.Lstat(path)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() < freeAtOnce {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	return file
}

// wait waits until everything is free that was removed before. Others may remove more meanwhile, for which it does not
// wait; a sync.WaitGroup would panic then.
func (f *freeing) wait() {
	f.mu.Lock()
	last := f.last
	f.mu.Unlock()
	if last != nil {
		<-last
	}
}
