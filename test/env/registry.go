package env

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Registry is Debian's docker-registry on a free port of the machine.
type Registry struct {
	Address string // host:port
	Log     string // path of what it writes, a line for each request among it
	process *Process
}

// registryConfig is the configuration of docker-registry (distribution 2.8).
const registryConfig = `version: 0.1
log:
  level: info
storage:
  filesystem:
    rootdirectory: %s
http:
  addr: %s
`

// StartRegistry starts a registry that keeps what it gets in the folder dir, and that this machine alone can reach.
func StartRegistry(ctx context.Context, dir string) (*Registry, error) {
	return StartRegistryOn(ctx, "127.0.0.1", dir)
}

// StartRegistryOn starts a registry on one of the machine's addresses.
func StartRegistryOn(ctx context.Context, host, dir string) (*Registry, error) {
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		return nil, fmt.Errorf("%w: run 'make deps'", err)
	}
	address, err := freeAddress(host)
	if err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	config := filepath.Join(dir, "config.yml")
	content := fmt.Sprintf(registryConfig, filepath.Join(dir, "data"), address)
	if err := os.WriteFile(config, []byte(content), 0o644); err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	log := filepath.Join(dir, "registry.log")
	process, err := StartProcess(exec.Command(program, "serve", config), log)
	if err != nil {
		return nil, err
	}
	r := &Registry{Address: address, Log: log, process: process}
	if err := process.WaitFor(ctx, 20*time.Second, r.ping); err != nil {
		r.Stop()
		return nil, err
	}
	return r, nil
}

// Stop ends the registry.
func (r *Registry) Stop() { r.process.Stop(5 * time.Second) }

func (r *Registry) ping(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Address+"/v2/", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("registry %s answers %s", r.Address, resp.Status)
	}
	return nil
}

func freeAddress(host string) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
