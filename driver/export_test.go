package driver

import (
	"context"
	"errors"
	"os"
	"time"

	graphdriver "github.com/containers/storage/drivers"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// UseMountString makes a driver mount overlays as on kernels before Linux 6.7.
func UseMountString(d graphdriver.Driver) { d.(*Driver).appendLowers = false }

// Home returns where a driver's store is.
func Home(d graphdriver.Driver) string {
	if s, ok := d.(*split); ok {
		return s.home
	}
	return d.(*Driver).home
}

// Shifting makes a driver work as where the kernel cannot map the ids of mounts, and returns why it could not before;
// empty: it can.
func Shifting(d graphdriver.Driver, why string) (before string) {
	before, d.(*Driver).noShifting = d.(*Driver).noShifting, why
	return before
}

// DiscardImage has a driver do away with a file that it has found to be damaged.
func DiscardImage(d graphdriver.Driver, holder string, bad volume.FileID) error {
	return d.(*Driver).discardImage(holder, bad)
}

// BeRelease has the driver be one that writes this version of the store.
func BeRelease(version int) (before int) {
	before, storeVersion = storeVersion, version
	return before
}

// RetryImages says after what time an image volume that could not be made is tried again.
func RetryImages(after time.Duration) (before time.Duration) {
	before, retryImage = retryImage, after
	return before
}

// FinishAside waits until a driver has done what it does in the background.
func FinishAside(d graphdriver.Driver) {
	own, ok := d.(*Driver)
	if !ok {
		own = d.(*split).Driver
		defer FinishAside(d.(*split).images)
	}
	own.aside.mu.Lock()
	now := own.aside.now
	own.aside.mu.Unlock()
	if now != nil {
		now.running.Wait()
	}
}

// DropKept has a driver give up the mounts that it keeps for containers to come.
func DropKept(d graphdriver.Driver) error {
	if s, ok := d.(*split); ok {
		return errors.Join(DropKept(s.Driver), DropKept(s.images))
	}
	return d.(*Driver).kept.dropAll()
}

// Settle has a driver remove at once the host mounts that linger.
func Settle(d graphdriver.Driver) error {
	if s, ok := d.(*split); ok {
		return errors.Join(Settle(s.Driver), Settle(s.images))
	}
	own, ok := d.(*Driver)
	if !ok {
		return nil // overlay's, to compare with
	}
	own.lock.Lock()
	defer own.lock.Unlock()
	return own.releaseMounts()
}

// LingerFor says for how long host mounts stay when their last user is gone.
func LingerFor(d time.Duration) (before time.Duration) {
	before, linger = linger, d
	return before
}

// ReleaseLingering does what a driver does when that time is over.
func ReleaseLingering(d graphdriver.Driver) { d.(*Driver).releaseLingering() }

// Kept returns how many mounts a driver keeps for containers to come.
func Kept(d graphdriver.Driver) int {
	k := &d.(*Driver).kept
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.mounts)
}

// KeepTwice has a driver keep another copy of a mounted volume, as if it were the volume of this name.
func KeepTwice(d graphdriver.Driver, mounted, name string) {
	own := d.(*Driver)
	own.kept.keep(name, own.volumePath(mounted), own.hostMount(mounted))
}

// RequireVerity has a driver mount volumes through dm-verity from now on, as after a restart with erofs.host_verity=on.
func RequireVerity(d graphdriver.Driver) { d.(*Driver).options.hostVerity = true }

// MaxKept is how many mounts a driver keeps for containers to come.
const MaxKept = maxKept

// TidyKept does what a driver does from time to time about the mounts that it keeps.
func TidyKept(d graphdriver.Driver) { d.(*Driver).kept.tidy() }

// Freeing frees removed files in the background.
type Freeing struct{ freeing freeing }

// Close has a file closed.
func (f *Freeing) Close(file *os.File) { f.freeing.close(file) }

// Wait waits until that is done.
func (f *Freeing) Wait() { f.freeing.wait() }

// Background does work aside.
type Background struct{ work background }

// Begin has work done.
func (b *Background) Begin(name string, work func(context.Context)) { b.work.begin(name, work) }

// Stop ends it, and says whether any is left.
func (b *Background) Stop() (left bool) {
	b.work.stop()
	return b.work.now != nil
}

// WriteFleeting writes a file whose loss does not matter.
func WriteFleeting(path string, v any) error { return writeJSON(path, v, 0o600, fleeting) }
