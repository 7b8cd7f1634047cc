// Command bench measures crio-erofs against the programs that could do its work, in one run on one machine, and says
// which goals are met. docs/performance.md explains the numbers.
//
// Times of one machine mean nothing on another one, and little on a machine that others use: what counts are ratios.
// All contenders get the same input and take turns, each in processes of its own so that their CPU time and peak
// memory are what the kernel has counted. A turn that other processes disturbed is repeated.
package main
