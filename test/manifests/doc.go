// Package manifests checks what contrib gives to Kubernetes and OpenShift against the types of their APIs. It is a module
// of its own, so that nobody else needs those.
package manifests
