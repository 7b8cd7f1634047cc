package images

import (
	"errors"
	"strings"

	"github.com/containers/image/v5/types"
	"github.com/spf13/pflag"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
)

// registryOptions say how to talk to a registry, by skopeo's names.
type registryOptions struct {
	authFile  string
	certDir   string
	creds     string
	tlsVerify bool
	flags     *pflag.FlagSet
}

func (o *registryOptions) addFlags(flags *pflag.FlagSet) {
	o.flags = flags
	flags.StringVar(&o.authFile, "authfile", "", "file with credentials for registries (as podman login writes it)")
	flags.StringVar(&o.certDir, "cert-dir", "", "directory with certificates (*.crt, *.cert, *.key) for the registry")
	flags.StringVar(&o.creds, "creds", "", "USERNAME[:PASSWORD] for the registry")
	flags.BoolVar(&o.tlsVerify, "tls-verify", true, "require HTTPS and verify the registry's certificate")
}

// system returns what containers/image calls the context of the system.
func (o *registryOptions) system() (*types.SystemContext, error) {
	sys := &types.SystemContext{
		AuthFilePath: o.authFile, DockerCertPath: o.certDir, OCICertPath: o.certDir,
		DockerRegistryUserAgent: "crio-erofs/" + cli.Version,
	}
	if o.flags.Changed("tls-verify") { // else registries.conf says
		sys.DockerInsecureSkipTLSVerify = types.NewOptionalBool(!o.tlsVerify)
		sys.OCIInsecureSkipTLSVerify = !o.tlsVerify
	}
	if o.creds == "" {
		return sys, nil
	}
	user, password, _ := strings.Cut(o.creds, ":")
	if user == "" {
		return nil, cli.Usage(errors.New("--creds must be USERNAME or USERNAME:PASSWORD"))
	}
	sys.DockerAuthConfig = &types.DockerAuthConfig{Username: user, Password: password}
	return sys, nil
}
