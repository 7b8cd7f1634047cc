package erofs

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

const (
	// PAX records with an extended attribute each: star's, which all use, has the value as it is; libarchive's has the
	// name in URL encoding and the value in base64.
	paxXattr           = "SCHILY.xattr."
	paxLibarchiveXattr = "LIBARCHIVE.xattr."
)

// xattrs gives a node the extended attributes of PAX records. The records are taken in the order of their keys: where
// an attribute comes in both forms, star's wins.
func (l *layerReader) xattrs(n *node, records map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(records)) {
		name, value, ok, err := paxAttribute(key, records[key])
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		x, ok, err := parseXattr(name, value)
		if err != nil {
			return err
		}
		if !ok {
			l.stats.SkippedXattrs++
			continue
		}
		// The records of a header are parts of one string, which may be a megabyte.
		x.name, x.value = strings.Clone(x.name), strings.Clone(x.value)
		n.setXattr(x)
	}
	return checkXattrs(n.xattrs)
}

// dropUserXattrs takes attributes of users away from what is neither file nor directory: Linux does not let such have
// any (xattr(7)), and an overlay could not copy the file up.
func (l *layerReader) dropUserXattrs(n *node) {
	if n.fileType() == modeRegular || n.isDir() {
		return
	}
	all := len(n.xattrs)
	n.xattrs = slices.DeleteFunc(n.xattrs, func(x xattr) bool { return x.index == xattrUser })
	l.stats.SkippedXattrs += int64(all - len(n.xattrs))
}

// paxAttribute returns the extended attribute that a PAX record holds, if it holds one.
func paxAttribute(key, value string) (name, val string, ok bool, err error) {
	if name, ok := strings.CutPrefix(key, paxXattr); ok {
		return name, value, true, nil
	}
	encoded, ok := strings.CutPrefix(key, paxLibarchiveXattr)
	if !ok {
		return "", "", false, nil
	}
	if name, err = url.PathUnescape(encoded); err != nil {
		return "", "", false, fmt.Errorf("PAX record %s: %w", quote(key), err)
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return "", "", false, fmt.Errorf("PAX record %s: %w", quote(key), err)
	}
	return name, string(b), true, nil
}
