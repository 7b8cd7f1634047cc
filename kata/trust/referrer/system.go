package referrer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/pkg/docker/config"
	"github.com/containers/image/v5/pkg/sysregistriesv2"
	"github.com/containers/image/v5/pkg/tlsclientconfig"
	"github.com/containers/image/v5/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
)

// Open returns an image's repository, which is talked to as containers/image talks to it when it reads the image: with the
// mirrors, the blocked registries and those without TLS of registries.conf, the certificates of certs.d and the
// credentials of auth.json. containers/image itself cannot list referrers.
func Open(sys *types.SystemContext, image reference.Named) (*Repository, error) {
	push, err := open(sys, image, image, nil)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", image.Name(), err)
	}
	r := &Repository{push: push}
	r.pull, err = pullPlaces(sys, image)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", image.Name(), err)
	}
	return r, nil
}

// pullPlaces returns where an image is to be looked for, in that order; the last is the registry itself (containers/image
// v5.35, docker/docker_image_src.go, newImageSource).
func pullPlaces(sys *types.SystemContext, image reference.Named) ([]*place, error) {
	registry, err := sysregistriesv2.FindRegistry(sys, image.Name())
	if err != nil {
		return nil, err
	}
	if registry == nil {
		p, err := open(sys, image, image, nil)
		return []*place{p}, err
	}
	// Referrers are of a digest. Which one makes no difference to where they are.
	withDigest, err := reference.WithDigest(reference.TrimNamed(image), digest.FromString(""))
	if err != nil {
		return nil, err
	}
	sources, err := registry.PullSourcesFromReference(withDigest)
	if err != nil {
		return nil, err
	}
	var places []*place
	for _, s := range sources {
		p, err := open(sys, image, s.Reference, &s.Endpoint)
		if err != nil {
			return nil, err
		}
		places = append(places, p)
	}
	return places, nil
}

// open makes a place of where an image is; endpoint is that of a mirror, or of the registry itself.
func open(sys *types.SystemContext, image, at reference.Named, endpoint *sysregistriesv2.Endpoint) (*place, error) {
	insecure, err := isInsecure(sys, at, endpoint)
	if err != nil {
		return nil, err
	}
	base, ok := remote.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("[should never happen] no transport")
	}
	t := base.Clone()
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: insecure} //nolint:gosec // the admin, or the user, asked for it
	dir, err := certDir(sys, reference.Domain(at))
	if err != nil {
		return nil, err
	}
	if dir != "" {
		if err := tlsclientconfig.SetupCertificates(dir, t.TLSClientConfig); err != nil {
			return nil, err
		}
	}
	p, err := newPlace(at.Name(), insecure, t)
	if err != nil {
		return nil, err
	}
	p.userAgent = sys.DockerRegistryUserAgent
	p.auth, err = credentials(sys, image, at)
	return p, err
}

func isInsecure(sys *types.SystemContext, at reference.Named, endpoint *sysregistriesv2.Endpoint) (bool, error) {
	registry, err := sysregistriesv2.FindRegistry(sys, at.Name())
	if err != nil {
		return false, err
	}
	if registry != nil && registry.Blocked {
		return false, fmt.Errorf("registry %s is blocked in %s or %s", registry.Prefix, sysregistriesv2.ConfigPath(sys),
			sysregistriesv2.ConfigDirPath(sys))
	}
	switch {
	case sys.DockerInsecureSkipTLSVerify != types.OptionalBoolUndefined:
		return sys.DockerInsecureSkipTLSVerify == types.OptionalBoolTrue, nil
	case endpoint != nil:
		return endpoint.Insecure, nil
	}
	return registry != nil && registry.Insecure, nil
}

// certsDirs have certificates for registries, each in a directory of its host and port (containers/image v5.35,
// docker/docker_client.go, dockerCertDir).
var certsDirs = []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}

// certDir returns the directory with the certificates for a registry; empty: there is none.
func certDir(sys *types.SystemContext, host string) (string, error) {
	switch {
	case sys.DockerCertPath != "":
		return sys.DockerCertPath, nil
	case sys.DockerPerHostCertDirPath != "":
		return filepath.Join(sys.DockerPerHostCertDirPath, host), nil
	}
	dirs := certsDirs
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append([]string{filepath.Join(home, ".config/containers/certs.d")}, dirs...)
	}
	for _, dir := range dirs {
		dir = filepath.Join(dir, host)
		_, err := os.Stat(dir)
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return "", err
		}
	}
	return "", nil
}

// credentials returns those for a place. Those of the command line are for the image's own registry, not for its mirrors.
func credentials(sys *types.SystemContext, image, at reference.Named) (authn.Authenticator, error) {
	var c types.DockerAuthConfig
	if sys.DockerAuthConfig != nil && reference.Domain(at) == reference.Domain(image) {
		c = *sys.DockerAuthConfig
	} else {
		withoutOwn := *sys
		withoutOwn.DockerAuthConfig = nil
		var err error
		if c, err = config.GetCredentialsForRef(&withoutOwn, at); err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
	}
	if c == (types.DockerAuthConfig{}) {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(authn.AuthConfig{Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken}), nil
}
