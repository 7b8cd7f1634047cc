package nodestore

// Roots are where the parts of a node's container storage are.
type Roots struct {
	GraphRoot   string
	RunRoot     string   // what does not outlive a reboot
	ImageStore  string   // where images are if they are apart from containers (imagestore)
	ImageStores []string // graph roots of additional image stores
}

// writable returns the roots that containers/storage writes to.
func (r *Roots) writable() []string {
	if r.ImageStore != "" {
		return []string{r.GraphRoot, r.ImageStore}
	}
	return []string{r.GraphRoot}
}
