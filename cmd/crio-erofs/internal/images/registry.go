package images

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"

	"github.com/containers/image/v5/docker"
	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/pkg/docker/config"
	"github.com/containers/image/v5/pkg/tlsclientconfig"
	"github.com/containers/image/v5/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/driver/measure/source"
	"github.com/crio-erofs/crio-erofs/kata/trust/referrer"
)

// repository returns the repository of an image in a registry.
func (o *registryOptions) repository(image string) (*referrer.Repository, error) {
	ref, err := source.ParseName(image)
	if err != nil {
		return nil, cli.Usage(err)
	}
	if ref.Transport().Name() != docker.Transport.Name() {
		return nil, cli.Usage(fmt.Errorf("image %s is not in a registry, where signed measurements are kept: want docker://…", image))
	}
	sys, err := o.system()
	if err != nil {
		return nil, err
	}
	auth, err := authenticator(sys, ref.DockerReference())
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", image, err)
	}
	transport, err := o.transport()
	if err != nil {
		return nil, err
	}
	return referrer.NewRepository(ref.DockerReference().Name(), !o.tlsVerify, remote.WithAuth(auth),
		remote.WithTransport(referrer.Bounded(transport)), remote.WithUserAgent(sys.DockerRegistryUserAgent))
}

// authenticator finds credentials as reading the image does.
func authenticator(sys *types.SystemContext, ref reference.Named) (authn.Authenticator, error) {
	c := types.DockerAuthConfig{}
	if sys.DockerAuthConfig != nil {
		c = *sys.DockerAuthConfig
	} else {
		var err error
		if c, err = config.GetCredentialsForRef(sys, ref); err != nil {
			return nil, err
		}
	}
	if c == (types.DockerAuthConfig{}) {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(authn.AuthConfig{Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken}), nil
}

func (o *registryOptions) transport() (http.RoundTripper, error) {
	base, ok := remote.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("[should never happen] no transport")
	}
	t := base.Clone()
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: !o.tlsVerify} //nolint:gosec // the user asked for it
	if o.certDir == "" {
		return t, nil
	}
	return t, tlsclientconfig.SetupCertificates(o.certDir, t.TLSClientConfig)
}
