package nri

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/hooks"
)

const (
	// PluginName and PluginIndex are what the plugin registers as when it is not told otherwise. NRI asks plugins in
	// the order of their indexes, two digits.
	PluginName  = "crio-erofs"
	PluginIndex = "10"
)

// Plugin answers the runtime's questions. Its methods are NRI's; a new connection needs no new Plugin.
type Plugin struct{}

// Config is the plugin's configuration as the runtime hands it over, from /etc/nri/conf.d/10-crio-erofs.conf or
// crio-erofs.conf. It is JSON.
type Config struct {
	// LogLevel is one of logrus's levels.
	LogLevel string `json:"log_level,omitempty"`
}

// Configure is called once per connection. A mistake in the configuration is logged and the configuration ignored: were
// it an error, the runtime would go on without the plugin, and for the sake of a log level nobody would remove the keys
// that pods bring along.
func (p *Plugin) Configure(_ context.Context, config, runtime, version string) (api.EventMask, error) {
	if err := applyConfig(config); err != nil {
		logrus.WithError(err).Error("NRI plugin configuration ignored")
	}
	logrus.WithFields(logrus.Fields{"runtime": runtime, "version": version}).Info("connected to the runtime")
	return 0, nil // 0: the events that Plugin has methods for
}

func applyConfig(config string) error {
	if strings.TrimSpace(config) == "" {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(config))
	d.DisallowUnknownFields()
	var c Config
	if err := d.Decode(&c); err != nil {
		return fmt.Errorf("%w; valid is {\"log_level\": \"debug|info|warning|error\"}", err)
	}
	if c.LogLevel == "" {
		return nil
	}
	level, err := logrus.ParseLevel(c.LogLevel)
	if err != nil {
		return fmt.Errorf("log_level: %w", err)
	}
	logrus.SetLevel(level)
	return nil
}

// CreateContainer sets and removes the annotations of a container that is about to be created.
func (p *Plugin) CreateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) (
	adjust *api.ContainerAdjustment, _ []*api.ContainerUpdate, err error) {
	start := time.Now()
	log := logrus.WithFields(logrus.Fields{"container": c.GetId(), "name": c.GetName(),
		"pod": pod.GetNamespace() + "/" + pod.GetName()})
	// A panic would end the process, and the runtime would create this container and all that follow without us.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("crio-erofs-hook: internal error: %v", r)
			log.WithField("panic", r).Error("internal error; container refused")
		}
	}()
	annotations := c.GetAnnotations()
	a, err := hooks.Annotate(annotations, annotations[hooks.AnnotationMountPoint])
	if err != nil {
		log.WithError(err).Error("container refused")
		return nil, nil, fmt.Errorf("crio-erofs-hook: container %s: %w", c.GetName(), err)
	}
	report(log.WithField("took", time.Since(start).Round(time.Microsecond)), a)
	return adjustment(a), nil, nil
}

// adjustment translates to NRI's terms; nil if there is nothing to do.
func adjustment(a *hooks.Adjustment) *api.ContainerAdjustment {
	if len(a.Set) == 0 && len(a.Remove) == 0 {
		return nil
	}
	adjust := &api.ContainerAdjustment{}
	for _, key := range a.Remove {
		adjust.RemoveAnnotation(key)
	}
	for key, value := range a.Set {
		adjust.AddAnnotation(key, value)
	}
	return adjust
}

func report(log *logrus.Entry, a *hooks.Adjustment) {
	if len(a.Remove) > 0 {
		log.WithField("keys", a.Remove).Warn("removed annotations that only this hook may set")
	}
	switch {
	case a.Manifest == nil:
		log.Debug("rootfs is not on the erofs storage driver")
	case a.Manifest.Refusal != "":
		log.WithField("reason", a.Manifest.Refusal).
			Warn("rootfs cannot be given to a VM as volumes; a VM handler will refuse the container")
	default:
		log.WithFields(logrus.Fields{"mode": a.Mode(), "volumes": len(a.Manifest.Volumes)}).Info("annotated")
	}
}
