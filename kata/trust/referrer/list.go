package referrer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxPages and maxListed bound what a registry can make of a list of referrers: nobody has that many of one image.
	maxPages  = 100
	maxListed = 10000
)

// list returns the descriptors of what refers to a manifest and may be a measurement: as the registry lists it
// (distribution-spec v1.1, "Listing Referrers"), or, where it has no such list, as the tag has it that is named after
// the digest ("Referrers Tag Schema").
func (p *place) list(ctx context.Context, d digest.Digest) ([]imagespec.Descriptor, error) {
	client, err := p.client(ctx)
	if err != nil {
		return nil, err
	}
	next := &url.URL{Scheme: p.name.Scheme(), Host: p.name.RegistryStr(),
		Path: fmt.Sprintf("/v2/%s/referrers/%s", p.name.RepositoryStr(), d), RawQuery: url.Values{"artifactType": {ArtifactType}}.Encode()}
	var all []imagespec.Descriptor
	for range maxPages {
		page, after, err := listPage(ctx, client, next)
		if errors.Is(err, errNoList) {
			return p.listTag(ctx, d)
		}
		if err != nil {
			return nil, err
		}
		for _, descriptor := range page.Manifests {
			if mayBeMeasurement(descriptor) {
				all = append(all, descriptor)
			}
		}
		if after == nil {
			return all, nil
		}
		if len(all) > maxListed {
			break
		}
		next = after
	}
	return nil, fmt.Errorf("%s lists more than %d pages or %d measurements", next.Redacted(), maxPages, maxListed)
}

// mayBeMeasurement: lists from before OCI 1.1 do not say what is in them. A registry need not heed what it was asked for.
func mayBeMeasurement(d imagespec.Descriptor) bool {
	return d.ArtifactType == "" || d.ArtifactType == ArtifactType
}

// errNoList says that a registry has no list of referrers. Registries that do not know the path answer in several ways.
var errNoList = errors.New("no list of referrers")

func listPage(ctx context.Context, client *http.Client, u *url.URL) (*imagespec.Index, *url.URL, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", imagespec.MediaTypeImageIndex)
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable:
		return nil, nil, errNoList
	}
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, nil, err
	}
	if mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || mediaType != imagespec.MediaTypeImageIndex {
		return nil, nil, errNoList
	}
	b, err := io.ReadAll(resp.Body) // Bounded
	if err != nil {
		return nil, nil, err
	}
	var index imagespec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", u.Redacted(), err)
	}
	after, err := nextPage(resp)
	return &index, after, err
}

// nextPage returns where a list goes on (RFC 8288, rel="next"); nil: nowhere. It must be in the same registry.
func nextPage(resp *http.Response) (*url.URL, error) {
	for _, link := range resp.Header.Values("Link") {
		target, parameters, ok := strings.Cut(link, ">")
		target, opens := strings.CutPrefix(strings.TrimSpace(target), "<")
		if !ok || !opens || !isNext(parameters) {
			continue
		}
		u, err := resp.Request.URL.Parse(target)
		if err != nil {
			return nil, fmt.Errorf("link to the next page: %w", err)
		}
		if u.Scheme != resp.Request.URL.Scheme || u.Host != resp.Request.URL.Host {
			return nil, fmt.Errorf("the list of referrers goes on at %s, which is another server", u.Redacted())
		}
		return u, nil
	}
	return nil, nil
}

func isNext(parameters string) bool {
	for parameter := range strings.SplitSeq(parameters, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		if strings.EqualFold(key, "rel") && strings.Trim(value, `"`) == "next" {
			return true
		}
	}
	return false
}

func (p *place) listTag(ctx context.Context, d digest.Digest) ([]imagespec.Descriptor, error) {
	tag := p.name.Tag(strings.Replace(d.String(), ":", "-", 1))
	got, err := remote.Get(tag, p.options(ctx)...)
	var status *transport.Error
	if errors.As(err, &status) && status.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var index imagespec.Index
	if err := json.Unmarshal(got.Manifest, &index); err != nil {
		return nil, fmt.Errorf("%s: %w", tag, err)
	}
	var all []imagespec.Descriptor
	for _, descriptor := range index.Manifests {
		if mayBeMeasurement(descriptor) {
			all = append(all, descriptor)
		}
	}
	return all, nil
}
