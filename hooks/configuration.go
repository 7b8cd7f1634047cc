package hooks

import (
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

// Configuration reads the configuration file anew for every container. Its zero value reads modes.DefaultPath.
type Configuration struct {
	// Path is the file's; see modes.Load.
	Path string

	mu      sync.Mutex
	last    *modes.Config
	trust   *trust.Dir // of trustOf
	trustOf string
}

// Trust returns what the node trusts: the directories beside the configuration file.
func (c *Configuration) Trust() *trust.Dir {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trust == nil || c.trustOf != c.Path {
		c.trust, c.trustOf = trust.NextTo(c.Path), c.Path
	}
	return c.trust
}

// Prepare begins with what the first container would have to wait for otherwise, in the background: on a node that
// enforces trust, the index of what it trusts. The runtime waits 2 s for an answer, and then goes on without one.
func (c *Configuration) Prepare() {
	config, err := modes.Load(c.Path)
	if err != nil || !config.Enforces() {
		return // For says what is wrong
	}
	go c.Trust().Index()
}

// For returns the configuration to decide with about a container of a runtime handler.
//
// A damaged file is an error for the handlers of this project: those whose name says so, and those that the file named
// when it was last in order. All other containers of the node, which may well be those that repair it, go on.
func (c *Configuration) For(handler string) (*modes.Config, error) {
	config, err := modes.Load(c.Path)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.last = config
		return config, nil
	}
	last := c.last
	if last == nil {
		last = &modes.Config{}
	}
	if _, ours := last.Handler(handler); ours {
		return nil, Refuse(ReasonConfiguration, err)
	}
	logrus.WithError(err).WithField("handler", handler).
		Error("configuration cannot be used; containers of handlers with EROFS volumes are refused")
	return last, nil
}
