// Package decryption keeps a program from decrypting image layers (ocicrypt) while the storage driver is to have none:
// erofs.decrypted_layers=refuse, the default. A program that pulls images and has keys, such as CRI-O, imports it.
//
// The driver alone could not do that. It gets a layer's plain tar and cannot see that the layer is encrypted in the
// registry; by then containers/image has already written the plain text to a temporary file (image v5.35,
// storage/storage_dest.go). So the place to refuse is before the layer's key is unwrapped. ocicrypt takes key wrappers
// from anybody, and this package puts itself in front of each.
package decryption

import (
	"errors"
	"sync/atomic"

	"github.com/containers/ocicrypt"
	"github.com/containers/ocicrypt/config"
	keyproviders "github.com/containers/ocicrypt/config/keyprovider-config"
	"github.com/containers/ocicrypt/keywrap"
	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/driver"
)

// refusal is why nothing may be decrypted; nil: it may.
var refusal atomic.Pointer[string]

// refuse has every attempt of this process to decrypt a layer fail from now on, with this reason.
func refuse(reason string) { refusal.Store(&reason) }

// builtIn are the schemes that ocicrypt registers (ocicrypt v1.2.1, encryption.go), besides those of key providers.
var builtIn = []string{"pgp", "jwe", "pkcs7", "pkcs11"}

// init runs right after ocicrypt's, which has registered all key wrappers.
func init() {
	schemes := builtIn
	if providers, err := keyproviders.GetConfiguration(); err != nil {
		logrus.WithError(err).Error("key providers for encrypted layers cannot be used") // nor does ocicrypt use them
	} else if providers != nil {
		for name := range providers.KeyProviderConfig {
			schemes = append(schemes, "provider."+name)
		}
	}
	for _, scheme := range schemes {
		if w := ocicrypt.GetKeyWrapper(scheme); w != nil {
			ocicrypt.RegisterKeyWrapper(scheme, gate{w})
		}
	}
	driver.OnRefuseDecryption(refuse)
}

// gate is a key wrapper that unwraps nothing once there is a refusal.
type gate struct{ keywrap.KeyWrapper }

// UnwrapKey decrypts what a layer's content is encrypted with.
func (g gate) UnwrapKey(dc *config.DecryptConfig, annotation []byte) ([]byte, error) {
	if reason := refusal.Load(); reason != nil {
		return nil, errors.New(*reason)
	}
	return g.KeyWrapper.UnwrapKey(dc, annotation)
}
