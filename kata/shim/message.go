package shim

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/crio-erofs/crio-erofs/kata"
)

// The messages are edited on the wire: what this package does not know, and does not need to know, stays byte for byte
// what the client sent, and the program needs neither generated code nor gRPC.

// Field numbers of ttrpc's Request (ttrpc v1.2.7, request.proto).
const (
	requestService = 1
	requestMethod  = 2
	requestPayload = 3
	requestMeta    = 5
)

// Field numbers of containerd.task.v2.CreateTaskRequest (containerd api v1.9.0, runtime/task/v2/shim.proto) and
// containerd.types.Mount (types/mount.proto). containerd.task.v3 has the same.
const (
	createID      = 1
	createBundle  = 2
	createRootfs  = 3
	createOptions = 10

	anyTypeURL = 1 // of google.protobuf.Any
	anyValue   = 2

	optionsConfigPath = 2 // of runtimeoptions.v1.Options (types/runtimeoptions/v1/api.proto)

	mountType    = 1
	mountSource  = 2
	mountTarget  = 3
	mountOptions = 4
)

// Names of the service and of the one method that is changed. Kata's shims serve v2 to CRI-O 1.34; a client of v3
// must not get around the proxy.
const (
	taskServiceV2 = "containerd.task.v2.Task"
	taskServiceV3 = "containerd.task.v3.Task"
	methodCreate  = "Create"
)

// request is the part of a ttrpc request that says what is asked for.
type request struct {
	service, method string
	payload         []byte
}

// isTask says whether a container is meant.
func (r request) isTask() bool { return r.service == taskServiceV2 || r.service == taskServiceV3 }

func (r request) isCreate() bool { return r.isTask() && r.method == methodCreate }

// createRequest is the part of a CreateTaskRequest that decides about its rootfs.
type createRequest struct {
	id, bundle string
	rootfs     []kata.Mount
	configPath string // of Kata's configuration file, CRI-O's runtime_config_path
}

// eachField calls fn for every field of a message. value is the content of length-delimited fields, else nil.
func eachField(msg []byte, fn func(num protowire.Number, value, whole []byte) error) error {
	for len(msg) > 0 {
		num, typ, tagLen := protowire.ConsumeTag(msg)
		if tagLen < 0 {
			return protowire.ParseError(tagLen)
		}
		valueLen := protowire.ConsumeFieldValue(num, typ, msg[tagLen:])
		if valueLen < 0 {
			return protowire.ParseError(valueLen)
		}
		var value []byte
		if typ == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(msg[tagLen:])
			value = value[:len(value):len(value)]
		}
		if err := fn(num, value, msg[:tagLen+valueLen]); err != nil {
			return err
		}
		msg = msg[tagLen+valueLen:]
	}
	return nil
}

var errWireType = errors.New("field with an unexpected wire type")

// setFields returns a function for eachField that keeps the last value of each field in dst, as protobuf says.
func setFields(dst map[protowire.Number]*[]byte) func(protowire.Number, []byte, []byte) error {
	return func(num protowire.Number, value, _ []byte) error {
		if p, ok := dst[num]; ok {
			if value == nil {
				return errWireType
			}
			*p = value
		}
		return nil
	}
}

func parseRequest(msg []byte) (request, error) {
	var service, method, payload []byte
	err := eachField(msg, setFields(map[protowire.Number]*[]byte{
		requestService: &service, requestMethod: &method, requestPayload: &payload,
	}))
	if err != nil {
		return request{}, fmt.Errorf("not a ttrpc request: %w", err)
	}
	return request{service: string(service), method: string(method), payload: payload}, nil
}

func parseCreate(msg []byte) (createRequest, error) {
	var c createRequest
	var id, bundle, options []byte
	set := setFields(map[protowire.Number]*[]byte{createID: &id, createBundle: &bundle, createOptions: &options})
	err := eachField(msg, func(num protowire.Number, value, whole []byte) error {
		if num != createRootfs {
			return set(num, value, whole)
		}
		if value == nil {
			return errWireType
		}
		m, err := parseMount(value)
		c.rootfs = append(c.rootfs, m)
		return err
	})
	if err != nil {
		return c, fmt.Errorf("not a CreateTaskRequest: %w", err)
	}
	c.id, c.bundle, c.configPath = string(id), string(bundle), parseOptions(options)
	return c, nil
}

// optionsTypes are the names that Options have had (src/runtime/pkg/containerd-shim-v2/create.go, loadRuntimeConfig).
// Others, such as runc's, are none of Kata's business.
var optionsTypes = []string{"runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"}

// parseOptions returns the configuration file that a client names, "" if it names none.
func parseOptions(msg []byte) string {
	var url, value, path []byte
	err := eachField(msg, setFields(map[protowire.Number]*[]byte{anyTypeURL: &url, anyValue: &value}))
	name := string(url[bytes.LastIndexByte(url, '/')+1:])
	if err != nil || !slices.Contains(optionsTypes, name) {
		return ""
	}
	if err := eachField(value, setFields(map[protowire.Number]*[]byte{optionsConfigPath: &path})); err != nil {
		return ""
	}
	return string(path)
}

func parseMount(msg []byte) (kata.Mount, error) {
	var m kata.Mount
	var typ, source, target []byte
	set := setFields(map[protowire.Number]*[]byte{mountType: &typ, mountSource: &source, mountTarget: &target})
	err := eachField(msg, func(num protowire.Number, value, whole []byte) error {
		if num != mountOptions {
			return set(num, value, whole)
		}
		if value == nil {
			return errWireType
		}
		m.Options = append(m.Options, string(value))
		return nil
	})
	m.Type, m.Source, m.Target = string(typ), string(source), string(target)
	return m, err
}

// without returns a copy of msg, which was parsed before, that lacks one field. There is room for extra bytes.
func without(msg []byte, field protowire.Number, extra int) []byte {
	out := make([]byte, 0, len(msg)+extra)
	_ = eachField(msg, func(num protowire.Number, _, whole []byte) error {
		if num != field {
			out = append(out, whole...)
		}
		return nil
	})
	return out
}

// withRootfs returns a ttrpc request's bytes with another rootfs in its CreateTaskRequest.
func withRootfs(msg []byte, req request, rootfs []kata.Mount) []byte {
	create := without(req.payload, createRootfs, 512*len(rootfs))
	for _, m := range rootfs {
		create = appendBytes(create, createRootfs, encodeMount(m))
	}
	return appendBytes(without(msg, requestPayload, len(create)+16), requestPayload, create)
}

func encodeMount(m kata.Mount) (b []byte) {
	for _, f := range []struct {
		num   protowire.Number
		value string
	}{{mountType, m.Type}, {mountSource, m.Source}, {mountTarget, m.Target}} {
		if f.value != "" {
			b = appendBytes(b, f.num, []byte(f.value))
		}
	}
	for _, o := range m.Options {
		b = appendBytes(b, mountOptions, []byte(o))
	}
	return b
}

func appendBytes(b []byte, num protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), value)
}
