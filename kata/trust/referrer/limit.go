package referrer

import (
	"fmt"
	"io"
	"net/http"
)

// maxResponse bounds every single answer of a registry: a manifest, an envelope, a list of referrers.
const maxResponse = 8 << 20

// Bounded returns a transport whose answers end with an error behind maxResponse bytes. go-containerregistry (v0.20,
// pkg/v1/remote) reads some of them to their end, however long a registry makes them.
func Bounded(t http.RoundTripper) http.RoundTripper { return bounded{t} }

type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxResponse, url: req.URL.Redacted()}
	}
	return resp, err
}

type boundedBody struct {
	io.ReadCloser
	left int64
	url  string
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, fmt.Errorf("%s: the answer has more than %d bytes", b.url, maxResponse)
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one more, to tell the end from the bound
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n + int(b.left), fmt.Errorf("%s: the answer has more than %d bytes", b.url, maxResponse)
	}
	return n, err
}
