package env

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// DebianSource returns the mirror and the release that this machine itself is installed from.
func DebianSource(ctx context.Context) (mirror, codename string, err error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", `. /etc/os-release; echo "$VERSION_CODENAME"
		apt-get indextargets --format '$(SITE)' "Codename: $VERSION_CODENAME" "Created-By: Packages"`)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("ask apt for its sources: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	fields := strings.Fields(string(out))
	if len(fields) < 2 {
		return "", "", errors.New("apt has no source for this release of Debian: see /etc/apt/sources.list")
	}
	return fields[1], fields[0], nil
}
