package driver

import (
	"time"

	graphdriver "github.com/containers/storage/drivers"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// UseMountString makes a driver mount overlays as on kernels before Linux 6.7.
func UseMountString(d graphdriver.Driver) { d.(*Driver).appendLowers = false }

// Home returns where a driver's store is.
func Home(d graphdriver.Driver) string { return d.(*Driver).home }

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
