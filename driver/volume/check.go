package volume

import (
	"errors"
	"fmt"
)

// Check returns an error unless the description is of a volume that Build or Merge could have made. A volume without
// a tree is not one.
func (d *Description) Check() error {
	if d.Size <= 0 {
		return fmt.Errorf("size %d", d.Size)
	}
	if d.Verity == nil {
		return errors.New("no verity")
	}
	return d.Verity.check(d.Size)
}
