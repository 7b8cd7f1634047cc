// Package policy holds contrib/policy against Open Policy Agent. It is a module of its own, because OPA is large.
package policy
