package driver

import "github.com/sirupsen/logrus"

// log marks what the driver says in the log of the program that it is in. Layers, volumes and what else an entry is about
// are fields, with the names that docs/troubleshooting.md lists.
var log = logrus.WithField("driver", Name)

// Fields of entries.
const (
	fieldLayer  = "layer"  // containers/storage's id: of an image's layer, or of a container's
	fieldVolume = "volume" // name of the directory in volumes/
	fieldPath   = "path"
	fieldPID    = "pid"
)
