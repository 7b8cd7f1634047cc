package hooks

import "errors"

// Reason says in one word why a container was refused, for those who count.
type Reason string

// The reasons.
const (
	ReasonSettings      Reason = "settings"      // those of the NRI plugin have a mistake
	ReasonConfiguration Reason = "configuration" // the configuration file cannot be used
	ReasonManifest      Reason = "manifest"      // the driver's description of the rootfs is damaged
	ReasonRequest       Reason = "request"       // the pod requests a mode that it cannot have
	ReasonMode          Reason = "mode"          // the container cannot have any of its handler's modes
	ReasonTrust         Reason = "trust"         // nobody vouches for the image's root hashes
	ReasonShim          Reason = "shim"          // the handler's runtime is not our shim
	ReasonInternal      Reason = "internal"      // a mistake in this program
)

// Reasons returns all reasons.
func Reasons() []Reason {
	return []Reason{ReasonSettings, ReasonConfiguration, ReasonManifest, ReasonRequest, ReasonMode, ReasonTrust, ReasonShim,
		ReasonInternal}
}

// refusal is an error with its reason.
type refusal struct {
	error
	reason Reason
}

func (r *refusal) Unwrap() error { return r.error }

// Refuse gives an error a reason; its text stays as it is. nil stays nil.
func Refuse(reason Reason, err error) error {
	if err == nil {
		return nil
	}
	return &refusal{err, reason}
}

// ReasonOf returns an error's reason.
func ReasonOf(err error) Reason {
	var r *refusal
	if errors.As(err, &r) {
		return r.reason
	}
	return ReasonInternal
}
