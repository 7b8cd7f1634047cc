package driver

import (
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/driver/counters"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// building is the making of a volume that is counted when it has ended.
type building struct {
	start time.Time
	kind  func(*counters.Counters) *counters.Built
	layer string              // whose volume it is to be
	dir   string              // where the volume was made; it stays there if the store has it already
	desc  *volume.Description // nil until there is a volume
}

func layersBuilt(c *counters.Counters) *counters.Built { return &c.Layers }
func imagesBuilt(c *counters.Counters) *counters.Built { return &c.Images }

// count writes down how the making of a volume has ended. Nobody's container fails because counting does.
func (d *Driver) count(b *building, err error) {
	took := time.Since(b.start)
	countErr := counters.Add(filepath.Join(d.home, counters.FileName), func(c *counters.Counters) {
		built := b.kind(c)
		switch {
		case err != nil:
			built.Failed++
			return
		case exists(filepath.Join(b.dir, volumeFile)):
			built.Reused++
		default:
			built.Made++
			built.Bytes += uint64(b.desc.Size)
		}
		built.Took += took
	})
	if err == nil {
		log.WithFields(logrus.Fields{fieldLayer: b.layer, fieldVolume: volumeName(b.desc), "bytes": b.desc.Size,
			"took": took.Round(time.Millisecond)}).Debug("The layer has its volume")
	}
	if countErr != nil {
		log.WithError(countErr).Debug("Not counted")
	}
}
