package referrer

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// place is a repository in a registry, or in a mirror of it, and how to talk to it.
type place struct {
	name      name.Repository
	auth      authn.Authenticator
	transport http.RoundTripper
	userAgent string
}

// newPlace makes a place of a repository's name. insecure allows plain HTTP.
func newPlace(repository string, insecure bool, t http.RoundTripper) (*place, error) {
	var options []name.Option
	if insecure {
		options = append(options, name.Insecure)
	} else {
		t = noPlainHTTP{t}
	}
	n, err := name.NewRepository(repository, options...)
	if err != nil {
		return nil, err
	}
	return &place{name: n, auth: authn.Anonymous, transport: Bounded(t)}, nil
}

func (p *place) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuth(p.auth), remote.WithTransport(p.transport),
		remote.WithUserAgent(p.userAgent)}
}

// client returns a client that has authenticated itself, for what package remote has no function for.
func (p *place) client(ctx context.Context) (*http.Client, error) {
	t, err := transport.NewWithContext(ctx, p.name.Registry, p.auth, transport.NewUserAgent(p.transport, p.userAgent),
		[]string{p.name.Scope(transport.PullScope)})
	return &http.Client{Transport: t}, err
}

// noPlainHTTP keeps credentials off the wire: go-containerregistry (v0.20, pkg/name/registry.go, Scheme) talks HTTP to
// registries with private addresses if they do not answer HTTPS, which somebody on the way can bring about.
type noPlainHTTP struct{ http.RoundTripper }

var errPlainHTTP = errors.New("plain HTTP is not allowed: --tls-verify=false or registries.conf (insecure) allows it")

func (t noPlainHTTP) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s: %w", req.URL.Redacted(), errPlainHTTP)
	}
	return t.RoundTripper.RoundTrip(req)
}
