package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// debPackages are the packages of Debian that have the libraries. libseccomp's symbols have no versions: the number is
// that of the release with the last of the functions that CRI-O calls (seccomp_api_get and later of API level 6).
var debPackages = map[string]string{"libc.so.6": "libc6", "libseccomp.so.2": "libseccomp2 (>= 2.5.0)"}

// libraryDepends returns the shared libraries that the programs below a directory need, as a format's dependencies.
func libraryDepends(stage, format string) ([]string, error) {
	needs := map[string][]string{} // library → versions of its symbols
	err := filepath.WalkDir(stage, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		return addNeeds(needs, path)
	})
	if err != nil {
		return nil, err
	}
	if format == "rpm" {
		return rpmLibraries(needs), nil
	}
	return debLibraries(needs)
}

// addNeeds adds what a file needs, if it is a program.
func addNeeds(needs map[string][]string, path string) error {
	f, err := elf.Open(path)
	if errors.As(err, new(*elf.FormatError)) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, library := range libraries {
		needs[library] = append(needs[library], "")
	}
	symbols, err := f.ImportedSymbols()
	if errors.Is(err, elf.ErrNoSymbols) {
		return nil // it is static
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, s := range symbols {
		if s.Library != "" && !slices.Contains(needs[s.Library], s.Version) {
			needs[s.Library] = append(needs[s.Library], s.Version)
		}
	}
	return nil
}

// rpmLibraries writes them as rpmbuild does: "libc.so.6(GLIBC_2.34)(64bit)".
func rpmLibraries(needs map[string][]string) []string {
	var depends []string
	for library, versions := range needs {
		for _, version := range versions {
			depends = append(depends, fmt.Sprintf("%s(%s)(64bit)", library, version))
		}
	}
	slices.Sort(depends)
	return slices.Compact(depends)
}

func debLibraries(needs map[string][]string) ([]string, error) {
	var depends []string
	for library, versions := range needs {
		name, ok := debPackages[library]
		if !ok {
			return nil, fmt.Errorf("a program needs %s: add Debian's package to debPackages", library)
		}
		if newest := slices.MaxFunc(versions, compareGlibc); strings.HasPrefix(newest, glibc) {
			name += " (>= " + strings.TrimPrefix(newest, glibc) + ")"
		}
		depends = append(depends, name)
	}
	slices.Sort(depends)
	return depends, nil
}

const glibc = "GLIBC_"

// compareGlibc orders versions of symbols; those that are not glibc's come first.
func compareGlibc(a, b string) int { return slices.Compare(glibcNumbers(a), glibcNumbers(b)) }

func glibcNumbers(version string) []int {
	numbers, ok := strings.CutPrefix(version, glibc)
	if !ok {
		return nil
	}
	var list []int
	for part := range strings.SplitSeq(numbers, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		list = append(list, n)
	}
	return list
}
