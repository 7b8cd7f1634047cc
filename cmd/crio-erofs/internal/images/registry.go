package images

import (
	"fmt"

	"github.com/containers/image/v5/docker"

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
	return referrer.Open(sys, ref.DockerReference())
}
