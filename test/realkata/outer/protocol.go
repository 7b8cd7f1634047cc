package outer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// PortName is the name of the virtio-serial port over which commands go in and their output comes out, as JSON values
// one after the other.
const PortName = "crio-erofs.outer"

// HostTag is the name under which virtiofs offers the machine's file system.
const HostTag = "host"

// ScratchDir is where the VM mounts its disk: ext4, for stores and other things that a file system of overlayfs over
// virtiofs cannot hold.
const ScratchDir = "/scratch"

// Request is a command to run.
type Request struct {
	Args []string `json:"args"`
	Env  []string `json:"env"`
	Dir  string   `json:"dir"`
}

// Reply is a part of a command's output, or its end.
type Reply struct {
	Stdout []byte `json:"stdout,omitempty"`
	Stderr []byte `json:"stderr,omitempty"`
	Exit   *int   `json:"exit,omitempty"`
	Error  string `json:"error,omitempty"` // why the command could not be run
}

// call sends a request and copies what comes back until the command has ended.
func call(port io.ReadWriter, r Request, stdout, stderr io.Writer) (int, error) {
	if err := json.NewEncoder(port).Encode(r); err != nil {
		return 0, fmt.Errorf("send command to the VM: %w", err)
	}
	replies := json.NewDecoder(port)
	for {
		var reply Reply
		if err := replies.Decode(&reply); err != nil {
			return 0, fmt.Errorf("the VM went away: %w", err)
		}
		if reply.Error != "" {
			return 0, errors.New(reply.Error)
		}
		if _, err := stdout.Write(reply.Stdout); err != nil {
			return 0, err
		}
		if _, err := stderr.Write(reply.Stderr); err != nil {
			return 0, err
		}
		if reply.Exit != nil {
			return *reply.Exit, nil
		}
	}
}
