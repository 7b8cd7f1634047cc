package crio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// GuestInfo asks the VM of a pod what it has mounted and verified. The answer is the guest's own.
func (p *Pod) GuestInfo(ctx context.Context) (agentapi.GuestInfo, error) {
	var info agentapi.GuestInfo
	cmd := exec.CommandContext(ctx, p.server.path("shims/containerd-shim-kata-v2"), "guest-info",
		"--sandbox", p.ID, "--format", "json")
	cmd.Env = p.server.environment()
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return info, fmt.Errorf("ask the guest of pod %s: %w", p.ID, err)
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return info, fmt.Errorf("ask the guest of pod %s: %w", p.ID, err)
	}
	return info, nil
}
