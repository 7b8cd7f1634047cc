package kataconfig

import (
	"sync"

	"github.com/crio-erofs/crio-erofs/kata"
)

// Once keeps what the first file said that was read: both of Kata's runtimes read their configuration for a pod's first
// container and never again (src/runtime/pkg/containerd-shim-v2/create.go, loadRuntimeConfig; src/runtime-rs/crates/
// runtimes/src/manager.rs, try_init). The zero value has read none.
type Once struct {
	mu     sync.Mutex
	target *kata.Target
}

// Load is the function Load, the first time that it succeeds. The result is shared: nobody may change it.
func (o *Once) Load(path string) (*kata.Target, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.target != nil {
		return o.target, nil
	}
	t, err := Load(path)
	if err != nil {
		return nil, err
	}
	o.target = t
	return t, nil
}
