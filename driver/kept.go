package driver

import (
	"errors"
	"os"
	"sync"
	"time"
)

const (
	// maxKept bounds the mounts that nobody uses. Each takes a descriptor and some 10 KiB of the kernel. It is more than
	// an image of 100 volumes needs where there are no image volumes.
	maxKept = 256

	// keptFor is how long one is kept: jobs come again after minutes.
	keptFor = 10 * time.Minute

	// keptCheck is how long the blocks of a volume that another process has removed may stay taken.
	keptCheck = 30 * time.Second
)

// kept has mounts of volumes whose last user is gone. The next one starts with them at once, and finds in memory what
// the one before has read: the pages of a mount's files go with its superblock.
//
// They are attached nowhere. So no mount table has them, and they go with the process, however that ends.
type kept struct {
	mu     sync.Mutex
	mounts map[string]keptMount // by the name of the volume
	timer  *time.Timer          // nil: there are no mounts
}

type keptMount struct {
	mnt   *os.File
	path  string // of the volume's file
	stamp stamp  // of the file when it was kept
	since time.Time
}

// stale says that the file is another one than that which is mounted, or changed, or gone.
func (k *keptMount) stale() bool {
	now, err := stampOf(k.path)
	if err != nil {
		return true
	}
	now.ctime = k.stamp.ctime // links come and go
	return now != k.stamp
}

// keep makes a copy of a volume's mount on a directory, so that it can be unmounted there.
func (k *kept) keep(name, path, dir string) {
	file, err := stampOf(path)
	if err != nil {
		return
	}
	mnt := cloneMount(dir)
	if mnt == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mounts == nil {
		k.mounts = map[string]keptMount{}
	}
	_ = k.dropLocked(name)
	if len(k.mounts) >= maxKept {
		_ = k.dropLocked(k.oldest())
	}
	k.mounts[name] = keptMount{mnt, path, file, time.Now()}
	if k.timer == nil {
		k.timer = time.AfterFunc(keptCheck, k.tidy)
	}
}

// take returns the mount of a volume that was kept, for the caller to attach and close; nil if there is none.
func (k *kept) take(name string) *os.File {
	k.mu.Lock()
	defer k.mu.Unlock()
	m, ok := k.mounts[name]
	if !ok {
		return nil
	}
	if m.stale() {
		_ = k.dropLocked(name)
		return nil
	}
	delete(k.mounts, name)
	return m.mnt
}

// oldest returns the name of the volume that was kept first.
func (k *kept) oldest() (name string) {
	for other, m := range k.mounts {
		if name == "" || m.since.Before(k.mounts[name].since) {
			name = other
		}
	}
	return name
}

// tidy drops what was kept for long, or is no more what the store has.
func (k *kept) tidy() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, m := range k.mounts {
		if time.Since(m.since) > keptFor || m.stale() {
			_ = k.dropLocked(name)
		}
	}
	if len(k.mounts) > 0 {
		k.timer.Reset(keptCheck)
	} else {
		k.timer = nil
	}
}

// drop lets go of a volume, so that nothing holds its file.
func (k *kept) drop(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dropLocked(name)
}

func (k *kept) dropLocked(name string) error {
	m, ok := k.mounts[name]
	if !ok {
		return nil
	}
	delete(k.mounts, name)
	return m.mnt.Close()
}

// dropAll lets go of all volumes.
func (k *kept) dropAll() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for name := range k.mounts {
		errs = append(errs, k.dropLocked(name))
	}
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
	return errors.Join(errs...)
}
