package crio

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// installedHook is the hook's path in contrib's files.
const installedHook = "/usr/local/bin/crio-erofs-hook"

// ConfigFile returns the path of crio-erofs's own configuration, of which runtime handler does what.
func (s *Server) ConfigFile() string { return s.path("config.toml") }

// MetricsSocket returns the path of the socket on which the NRI plugin serves its metrics.
func (s *Server) MetricsSocket() string { return s.path("metrics.sock") }

// SetConfig replaces crio-erofs's own configuration; hook and shim see it with the next container.
func (s *Server) SetConfig(text string) error {
	tmp := s.ConfigFile() + ".tmp"
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, s.ConfigFile())
}

// writeHookConfig writes contrib's configuration, its guard and the NRI plugin's settings, with their paths replaced.
func (s *Server) writeHookConfig(root string) error {
	config := s.opts.Config
	if config == "" {
		sample, err := os.ReadFile(filepath.Join(root, "contrib/config/config.toml"))
		if err != nil {
			return err
		}
		config = string(sample)
	}
	guard, err := os.ReadFile(filepath.Join(root, "contrib/hooks.d/60-crio-erofs-guard.json"))
	if err != nil {
		return err
	}
	private := bytes.ReplaceAll(guard, []byte(installedHook), []byte(s.hook))
	if bytes.Equal(private, guard) {
		return fmt.Errorf("contrib/hooks.d does not name %s", installedHook)
	}
	settings, err := json.Marshal(map[string]string{
		"log_level": "info", "config": s.ConfigFile(), "metrics_addr": "unix:" + s.MetricsSocket(), "graphroot": s.GraphRoot(),
	})
	if err != nil {
		return err
	}
	for file, content := range map[string][]byte{
		"nri/conf.d/10-crio-erofs.conf": settings, "hooks.d/60-crio-erofs-guard.json": private,
	} {
		if err := os.MkdirAll(filepath.Dir(s.path(file)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(s.path(file), content, 0o644); err != nil {
			return err
		}
	}
	return s.SetConfig(config)
}
