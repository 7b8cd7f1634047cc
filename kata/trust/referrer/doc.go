// Package referrer keeps signed measurements in the registry that has the image, as referrers of its manifest
// (opencontainers/distribution-spec, "Listing Referrers"): where the registry lists them, and by the tag schema where not.
package referrer
