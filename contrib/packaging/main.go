// Command packaging makes a Debian package and an RPM package of a directory that stage.sh has laid out.
//
//	packaging -description node.yaml -version 1.2.0 -out DIR deb=STAGE rpm=STAGE
//
// The description has what the packages say about themselves, in nfpm's form. The files are those of the directory: what
// is below its /etc is configuration. All belong to root.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers the format
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm" // registers the format
)

func main() {
	description := flag.String("description", "", "file that describes the package")
	version := flag.String("version", "", "version of the package")
	out := flag.String("out", ".", "directory for the packages")
	flag.Parse()
	for _, arg := range flag.Args() {
		format, stage, _ := strings.Cut(arg, "=")
		path, err := build(*description, *version, format, stage, *out)
		if err != nil {
			fmt.Fprintf(os.Stderr, "packaging: %s of %s: %v\n", format, *description, err)
			os.Exit(1)
		}
		fmt.Println(path)
	}
}

// build writes one package and returns its path.
func build(description, version, format, stage, out string) (string, error) {
	config, err := nfpm.ParseFileWithEnvMapping(description, func(name string) string {
		switch name {
		case "VERSION":
			return version
		case "GOARCH":
			return cmp.Or(os.Getenv(name), runtime.GOARCH)
		}
		return os.Getenv(name)
	})
	if err != nil {
		return "", err
	}
	info, err := config.Get(format)
	if err != nil {
		return "", err
	}
	if info.MTime, err = sourceDate(); err != nil {
		return "", err
	}
	if info.Contents, err = contents(stage, info.Name, info.MTime); err != nil {
		return "", err
	}
	libraries, err := libraryDepends(stage, format)
	if err != nil {
		return "", err
	}
	info.Depends = append(info.Depends, libraries...)
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return "", err
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return "", err
	}
	info.Target = filepath.Join(out, packager.ConventionalFileName(info))
	f, err := os.Create(info.Target)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := packager.Package(info, f); err != nil {
		return "", err
	}
	return info.Target, f.Close()
}

// sourceDate returns the time that all files get, so that the same sources give the same packages.
func sourceDate() (time.Time, error) {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// contents lists what is in a directory. Directories are the package's own if they carry its name: others have others'
// files in them, too.
func contents(stage, name string, mtime time.Time) (files.Contents, error) {
	var list files.Contents
	err := filepath.WalkDir(stage, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(stage, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		c := &files.Content{
			Source: path, Destination: "/" + relative,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: info.Mode().Perm(), MTime: mtime},
		}
		switch {
		case entry.IsDir() && !slices.Contains(strings.Split(relative, "/"), name):
			return nil
		case entry.IsDir():
			c.Type, c.Source = files.TypeDir, ""
		case entry.Type() == fs.ModeSymlink:
			c.Type = files.TypeSymlink
			c.Source, err = os.Readlink(path)
		case strings.HasPrefix(c.Destination, "/etc/"):
			c.Type = files.TypeConfigNoReplace
		default:
			c.Type = files.TypeFile
		}
		list = append(list, c)
		return err
	})
	return list, err
}
