package trust

import "github.com/crio-erofs/crio-erofs/driver/measure"

// Indexes says whether the index has a file with this content under what the measurement in it is of.
func Indexes(b []byte, m *measure.Measurement) bool { return readImage(b) == newIndexed(m) }
