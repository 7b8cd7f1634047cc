// Command push builds the test images and stores them in a registry:
//
//	go run ./test/images/push 127.0.0.1:5000 [NAME...]
package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: push HOST:PORT [NAME...]")
		os.Exit(2)
	}
	if err := push(os.Args[1], os.Args[2:]); err != nil {
		logrus.Fatal(err)
	}
}

func push(registry string, names []string) error {
	cache, err := env.Cache()
	if err != nil {
		return err
	}
	for _, image := range images.All() {
		if len(names) > 0 && !slices.Contains(names, image.Name) {
			continue
		}
		ref, err := image.Push(context.Background(), cache, registry)
		if err != nil {
			return err
		}
		fmt.Println(ref)
	}
	return nil
}
