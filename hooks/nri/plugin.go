package nri

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/hooks"
	"github.com/crio-erofs/crio-erofs/hooks/metrics"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

const (
	// guardTimeout bounds the guard, in seconds. It reads two small files.
	guardTimeout = 10

	// annotationResolvPath is where CRI-O says where the pod's resolv.conf is: in the bundle of its sandbox (cri-o 1.34,
	// internal/lib/sandbox/infra.go, createResolvConf).
	annotationResolvPath = "io.kubernetes.cri-o.ResolvPath"
)

// Plugin answers the runtime's questions. Its methods are NRI's; a new connection needs no new Plugin.
type Plugin struct {
	Configuration hooks.Configuration

	// Guard is the program that containers with volumes get as a hook of their own: "Guard oci createRuntime" fails if
	// the runtime has not passed the container through the shim. Empty: none, and it does not matter which runtime
	// there is.
	Guard string

	// Metrics counts; nil: nothing does. MetricsAddress is where it is served, see metrics.Listen; empty: nowhere. GraphRoot
	// is CRI-O's container storage, whose metrics come along; empty: metrics.DefaultGraphRoot.
	Metrics        *metrics.Metrics
	MetricsAddress string
	GraphRoot      string

	serving  sync.Mutex        // held while listener and served change: the stub may configure a plugin that is about to end
	listener *metrics.Listener // of the metrics, while they are served
	served   string            // where
	retry    *time.Timer       // runs while somebody else has the address

	initial *initial // nil before the first settings

	// unusable is why the runtime's settings for the plugin cannot be applied.
	unusable error
}

// Configure is called once per connection. A mistake in the settings is no error here, because the runtime would then
// go on without the plugin; instead CreateContainer refuses the handlers of this project.
func (p *Plugin) Configure(_ context.Context, settings, runtime, version string) (api.EventMask, error) {
	p.unusable = nil
	if err := p.apply(settings); err != nil {
		p.unusable = hooks.Refuse(hooks.ReasonSettings, fmt.Errorf("settings of the NRI plugin (/etc/nri/conf.d): %w", err))
		logrus.WithError(p.unusable).Error("containers of handlers with EROFS volumes are refused")
	}
	p.Configuration.Prepare()
	p.serveMetrics()
	p.Metrics.Connected(true)
	logrus.WithFields(logrus.Fields{"runtime": runtime, "version": version}).Info("connected to the runtime")
	return 0, nil // 0: the events that Plugin has methods for
}

// serveMetrics serves them where they are to be served now. That it cannot is no reason to keep containers from starting.
func (p *Plugin) serveMetrics() {
	p.Metrics.Look(p.Configuration.Path, p.GraphRoot)
	p.serving.Lock()
	defer p.serving.Unlock()
	if p.listener != nil && p.served == p.MetricsAddress {
		return
	}
	p.closeMetrics()
	if p.Metrics == nil || p.MetricsAddress == "" {
		return
	}
	p.listen(p.MetricsAddress)
}

// retryMetrics is how long an address that somebody else has is not tried again: the plugin before this one, for example,
// when CRI-O starts anew. It is a variable for tests.
var retryMetrics = 10 * time.Second

// listen serves metrics, now or later; the caller holds serving.
func (p *Plugin) listen(address string) {
	log := logrus.WithField("address", address)
	l, err := p.Metrics.Listen(context.Background(), address)
	if err == nil {
		p.listener, p.served, p.retry = l, address, nil
		log.Info("metrics are served")
		return
	}
	if p.retry == nil {
		log.WithError(err).Error("metrics are not served; this is tried again")
	}
	var timer *time.Timer
	timer = time.AfterFunc(retryMetrics, func() {
		p.serving.Lock()
		defer p.serving.Unlock()
		if p.retry == timer { // else something else has been decided
			p.listen(address)
		}
	})
	p.retry = timer
}

// stopMetrics leaves no socket behind.
func (p *Plugin) stopMetrics() {
	p.serving.Lock()
	defer p.serving.Unlock()
	p.closeMetrics()
}

// closeMetrics ends what is served; the caller holds serving.
func (p *Plugin) closeMetrics() {
	if p.retry != nil {
		p.retry.Stop()
		p.retry = nil
	}
	if p.listener == nil {
		return
	}
	if err := p.listener.Close(); err != nil {
		logrus.WithError(err).WithField("address", p.served).Warn("metrics: the address is not given up in order")
	}
	p.listener = nil
}

// CreateContainer sets and removes annotations of a container that is about to be created. An error fails the creation.
func (p *Plugin) CreateContainer(ctx context.Context, pod *api.PodSandbox, c *api.Container) (
	adjust *api.ContainerAdjustment, _ []*api.ContainerUpdate, err error) {
	start := time.Now()
	log := logrus.WithFields(logrus.Fields{"container": c.GetId(), "name": c.GetName(),
		"pod": pod.GetNamespace() + "/" + pod.GetName(), "handler": pod.GetRuntimeHandler()})
	// A panic would end the process, and the runtime would create this container and all that follow without us.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("crio-erofs-hook: internal error: %v", r)
			log.WithField("panic", r).Error("internal error; container refused")
			p.Metrics.Refused(pod.GetRuntimeHandler(), hooks.ReasonInternal, time.Since(start))
		}
	}()
	a, err := p.annotate(ctx, pod, c)
	if err != nil {
		reason := hooks.ReasonOf(err)
		log.WithError(err).WithField("reason", reason).Error("container refused")
		p.Metrics.Refused(pod.GetRuntimeHandler(), reason, time.Since(start))
		return nil, nil, fmt.Errorf("crio-erofs-hook: %w", err) // CRI-O and the kubelet name the container
	}
	adjust = p.adjustment(a, c)
	took := time.Since(start)
	p.Metrics.Answered(pod.GetRuntimeHandler(), a.Mode, took)
	report(log.WithField("took", took.Round(time.Microsecond)), a)
	return adjust, nil, nil
}

func (p *Plugin) annotate(ctx context.Context, pod *api.PodSandbox, c *api.Container) (*hooks.Adjustment, error) {
	handler := pod.GetRuntimeHandler()
	if p.unusable != nil && modes.IsOurs(handler) {
		return nil, p.unusable
	}
	config, err := p.Configuration.For(handler)
	if err != nil {
		return nil, err
	}
	annotations := c.GetAnnotations()
	container := hooks.Container{
		Handler: handler, MountPoint: annotations[hooks.AnnotationMountPoint], Annotations: annotations,
	}
	a, err := hooks.Annotate(config, container)
	if err != nil {
		return nil, err
	}
	if err := hooks.Enforce(ctx, p.Configuration.Trust(), a, container); err != nil {
		return nil, err
	}
	return a, p.checkShim(a, annotations[annotationResolvPath])
}

// checkShim makes sure that the pod's sandbox was started by our shim, which is what will attach the container's volumes.
// Kata's runtime-rs heeds no hook of a container (see package oci), so that there the guard would come to nothing.
func (p *Plugin) checkShim(a *hooks.Adjustment, resolvPath string) error {
	if p.Guard == "" || !modes.HasVolumes(a.Mode) || resolvPath == "" {
		return nil
	}
	if err := hooks.ThroughShim(filepath.Dir(resolvPath)); err != nil {
		return hooks.Refuse(hooks.ReasonShim, fmt.Errorf("handler %s asks for mode %s, but its runtime is not crio-erofs's "+
			"shim (%w): set its runtime_path to containerd-shim-%s-v2, a link to the shim, or take it out of the configuration",
			a.Handler.Name, a.Mode, err, a.Handler.Name))
	}
	return nil
}

func (p *Plugin) adjustment(a *hooks.Adjustment, c *api.Container) *api.ContainerAdjustment {
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
	// CRI-O's hooks directory may have added it already (contrib/hooks.d).
	guarded := slices.ContainsFunc(c.GetHooks().GetCreateRuntime(), func(h *api.Hook) bool {
		return h.GetPath() == p.Guard
	})
	if p.Guard != "" && !guarded && modes.HasVolumes(a.Mode) {
		adjust.AddHooks(&api.Hooks{CreateRuntime: []*api.Hook{{
			Path: p.Guard, Args: []string{"crio-erofs-hook", "oci", "createRuntime"}, Timeout: api.Int(guardTimeout),
		}}})
	}
	return adjust
}

func report(log *logrus.Entry, a *hooks.Adjustment) {
	if len(a.Remove) > 0 {
		log.WithField("keys", a.Remove).Warn("removed annotations that only this hook may set")
	}
	if a.Mode == "" {
		log.Debug("not a handler of this project")
		return
	}
	log.WithField("mode", a.Mode).Info("annotated")
}
