package matrix

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/sirupsen/logrus"
)

// registryHost is the address on which pods and their guests reach the registry, as CRI-O does: one for documentation
// (RFC 5737), which no machine has.
const registryHost = "192.0.2.1"

// addAddress gives the machine one more address, until remove is called.
func addAddress(ctx context.Context, address string) (remove func(), err error) {
	change := func(ctx context.Context, verb string) error {
		out, err := exec.CommandContext(ctx, "ip", "address", verb, address+"/32", "dev", "lo").CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip address %s %s: %w: %s", verb, address, err, out)
		}
		return nil
	}
	if err := change(ctx, "replace"); err != nil {
		return nil, err
	}
	return func() {
		if err := change(context.WithoutCancel(ctx), "delete"); err != nil {
			logrus.Warn(err)
		}
	}, nil
}
