package driver

import "sync/atomic"

// decryptedRefused is the reason that who pulls an image with encrypted layers gets to read.
const decryptedRefused = "the storage driver " + Name + " keeps no decrypted layers, so that nobody reads them on the node: " +
	"have the guest pull the image, or let the node decrypt layers with the storage option erofs.decrypted_layers=allow"

// refuseDecryption keeps this process from decrypting layers; nil if it never does.
var refuseDecryption atomic.Pointer[func(reason string)]

// OnRefuseDecryption sets the function that Init calls if the option erofs.decrypted_layers says that there are to be no
// layers in the store that were decrypted on their way. It is to make all attempts to decrypt one fail, for the reason
// given, as long as the process runs. Package driver/decryption does this for programs that use ocicrypt; it is not part
// of this package, because those that do not would have ocicrypt in them for nothing.
func OnRefuseDecryption(refuse func(reason string)) { refuseDecryption.Store(&refuse) }

func (o *options) applyDecryption() {
	if refuse := refuseDecryption.Load(); refuse != nil && !o.decrypted {
		(*refuse)(decryptedRefused)
	}
}
