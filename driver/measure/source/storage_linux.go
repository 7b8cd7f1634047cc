package source

import "github.com/containers/image/v5/storage"

func init() {
	transports = append(transports, storage.Transport)
}
