//! The tree in which packets wait that came out of order.
//!
//! Packets in it may overlap, and a new one is only held against those on its way down from the root. So what is merged,
//! what is kept twice and what is found to be covered depends on the tree's shape, and the shape must be the kernel's: a
//! red-black tree (Cormen et al., "Introduction to Algorithms", chapter 13) that the caller walks, as with the kernel's
//! `rb_link_node`, `rb_insert_color`, `rb_erase` and `rb_replace_node`. Nodes lie in one vector and are named by index.

use std::ops::{Index, IndexMut};

/// Index of no node.
const NIL: u32 = u32::MAX;

/// Which child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What comes before.
    Left,
    /// What comes behind.
    Right,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Left => Side::Right,
            Side::Right => Side::Left,
        }
    }
}

/// Names a node for as long as it is in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(u32);

#[derive(Debug)]
struct Node<T> {
    /// None in a node that is free.
    value: Option<T>,
    parent: u32,
    left: u32,
    right: u32,
    red: bool,
}

/// The tree. Who inserts says where; the order is his.
#[derive(Debug)]
pub struct Tree<T> {
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
    root: u32,
    /// The node that nothing is behind.
    last: u32,
}

impl<T> Default for Tree<T> {
    fn default() -> Tree<T> {
        Tree { nodes: Vec::new(), free: Vec::new(), root: NIL, last: NIL }
    }
}

impl<T> Index<NodeId> for Tree<T> {
    type Output = T;

    fn index(&self, id: NodeId) -> &T {
        self.nodes[id.0 as usize].value.as_ref().expect("the node is in the tree")
    }
}

impl<T> IndexMut<NodeId> for Tree<T> {
    fn index_mut(&mut self, id: NodeId) -> &mut T {
        self.nodes[id.0 as usize].value.as_mut().expect("the node is in the tree")
    }
}

impl<T> Tree<T> {
    /// True without nodes.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.root == NIL
    }

    /// Where a walk begins.
    pub fn root(&self) -> Option<NodeId> {
        name(self.root)
    }

    /// A child of a node.
    pub fn child(&self, of: NodeId, side: Side) -> Option<NodeId> {
        name(self.child_of(of.0, side))
    }

    /// The node that everything is behind.
    pub fn first(&self) -> Option<NodeId> {
        name(self.leftmost(self.root))
    }

    /// The node that nothing is behind.
    pub fn last(&self) -> Option<NodeId> {
        name(self.last)
    }

    /// The node behind `id`.
    pub fn next(&self, id: NodeId) -> Option<NodeId> {
        name(self.neighbour(id.0, Side::Right))
    }

    /// Puts a value where a walk has ended: below `parent` on a side where that has no child, or, into an empty tree,
    /// below nobody.
    pub fn insert(&mut self, parent: Option<NodeId>, side: Side, value: T) -> NodeId {
        let above = parent.map_or(NIL, |parent| parent.0);
        let node = Node { value: Some(value), parent: above, left: NIL, right: NIL, red: true };
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        };
        if above == NIL {
            self.root = id;
            self.last = id;
        } else {
            debug_assert_eq!(self.child_of(above, side), NIL, "the walk ended early");
            self.set_child(above, side, id);
            if above == self.last && side == Side::Right {
                self.last = id;
            }
        }
        self.balance_insertion(id);
        NodeId(id)
    }

    /// Puts a value in the place of another, which it gives back.
    pub fn replace(&mut self, id: NodeId, value: T) -> T {
        std::mem::replace(&mut self[id], value)
    }

    /// Takes a node out.
    pub fn remove(&mut self, id: NodeId) -> Option<T> {
        let node = id.0;
        if node == self.last {
            self.last = self.neighbour(node, Side::Left);
        }
        let (left, right) = (self.child_of(node, Side::Left), self.child_of(node, Side::Right));
        let (moved, above, black) = if left == NIL || right == NIL {
            let only = if left == NIL { right } else { left };
            let above = self.nodes[node as usize].parent;
            self.put_in_place_of(node, only);
            (only, above, !self.is_red(node))
        } else {
            self.remove_between(node, left, right)
        };
        if black {
            self.balance_removal(moved, above);
        }
        self.free.push(node);
        self.nodes[node as usize].value.take()
    }

    /// Takes a node with two children out: the one behind it takes its place. Gives who moved up where that one was, its
    /// parent, and whether that one was black.
    fn remove_between(&mut self, node: u32, left: u32, right: u32) -> (u32, u32, bool) {
        let heir = self.leftmost(right);
        let black = !self.is_red(heir);
        let moved = self.child_of(heir, Side::Right);
        let above = if heir == right {
            heir
        } else {
            let above = self.nodes[heir as usize].parent;
            self.put_in_place_of(heir, moved);
            self.set_child(heir, Side::Right, right);
            self.nodes[right as usize].parent = heir;
            above
        };
        self.put_in_place_of(node, heir);
        self.set_child(heir, Side::Left, left);
        self.nodes[left as usize].parent = heir;
        self.nodes[heir as usize].red = self.is_red(node);
        (moved, above, black)
    }

    // ---- balance ----

    fn balance_insertion(&mut self, inserted: u32) {
        let mut node = inserted;
        while self.is_red(self.parent(node)) {
            let mut parent = self.parent(node);
            let grand = self.parent(parent);
            let side = self.side_of(parent, grand);
            let uncle = self.child_of(grand, side.other());
            if self.is_red(uncle) {
                self.paint(parent, false);
                self.paint(uncle, false);
                self.paint(grand, true);
                node = grand;
                continue;
            }
            if self.child_of(parent, side.other()) == node {
                self.rotate(parent, side);
                parent = node;
            }
            self.rotate(grand, side.other());
            self.paint(parent, false);
            self.paint(grand, true);
            break;
        }
        self.paint(self.root, false);
    }

    /// The paths through `node`, which may be nobody, below `parent` have one black node too few.
    fn balance_removal(&mut self, moved: u32, above: u32) {
        let (mut node, mut parent) = (moved, above);
        while node != self.root && !self.is_red(node) {
            let side = self.side_of(node, parent);
            let mut sibling = self.child_of(parent, side.other());
            if self.is_red(sibling) {
                self.paint(sibling, false);
                self.paint(parent, true);
                self.rotate(parent, side);
                sibling = self.child_of(parent, side.other());
            }
            let (near, far) = (self.child_of(sibling, side), self.child_of(sibling, side.other()));
            if !self.is_red(near) && !self.is_red(far) {
                self.paint(sibling, true);
                (node, parent) = (parent, self.parent(parent));
                continue;
            }
            if !self.is_red(far) {
                self.paint(near, false);
                self.paint(sibling, true);
                self.rotate(sibling, side.other());
                sibling = near;
            }
            self.paint(sibling, self.is_red(parent));
            self.paint(parent, false);
            self.paint(self.child_of(sibling, side.other()), false);
            self.rotate(parent, side);
            node = self.root;
        }
        self.paint(node, false);
    }

    /// The child on the other side takes the place of `node`, which goes down to `side`.
    fn rotate(&mut self, node: u32, side: Side) {
        let up = self.child_of(node, side.other());
        let between = self.child_of(up, side);
        self.set_child(node, side.other(), between);
        if between != NIL {
            self.nodes[between as usize].parent = node;
        }
        self.put_in_place_of(node, up);
        self.set_child(up, side, node);
        self.nodes[node as usize].parent = up;
    }

    // ---- links ----

    fn parent(&self, node: u32) -> u32 {
        self.nodes[node as usize].parent
    }

    fn child_of(&self, node: u32, side: Side) -> u32 {
        let node = &self.nodes[node as usize];
        match side {
            Side::Left => node.left,
            Side::Right => node.right,
        }
    }

    fn set_child(&mut self, node: u32, side: Side, child: u32) {
        let node = &mut self.nodes[node as usize];
        match side {
            Side::Left => node.left = child,
            Side::Right => node.right = child,
        }
    }

    /// On which side of `parent` the child `node` is, which may be nobody if the other one is somebody.
    fn side_of(&self, node: u32, parent: u32) -> Side {
        if self.nodes[parent as usize].left == node { Side::Left } else { Side::Right }
    }

    /// Nobody counts as black.
    fn is_red(&self, node: u32) -> bool {
        self.nodes.get(node as usize).is_some_and(|node| node.red)
    }

    fn paint(&mut self, node: u32, red: bool) {
        if let Some(node) = self.nodes.get_mut(node as usize) {
            node.red = red;
        }
    }

    /// `heir` becomes the child of `node`'s parent instead of `node`.
    fn put_in_place_of(&mut self, node: u32, heir: u32) {
        let parent = self.parent(node);
        if parent == NIL {
            self.root = heir;
        } else {
            let side = self.side_of(node, parent);
            self.set_child(parent, side, heir);
        }
        if heir != NIL {
            self.nodes[heir as usize].parent = parent;
        }
    }

    fn leftmost(&self, from: u32) -> u32 {
        self.outermost(from, Side::Left)
    }

    fn outermost(&self, from: u32, side: Side) -> u32 {
        let mut node = from;
        while node != NIL && self.child_of(node, side) != NIL {
            node = self.child_of(node, side);
        }
        node
    }

    /// The next node on a side, in order.
    fn neighbour(&self, of: u32, side: Side) -> u32 {
        let below = self.child_of(of, side);
        if below != NIL {
            return self.outermost(below, side.other());
        }
        let (mut node, mut parent) = (of, self.parent(of));
        while parent != NIL && self.child_of(parent, side) == node {
            (node, parent) = (parent, self.parent(parent));
        }
        parent
    }
}

fn name(node: u32) -> Option<NodeId> {
    (node != NIL).then_some(NodeId(node))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cx::Rng;

    fn insert(tree: &mut Tree<u32>, value: u32) -> NodeId {
        let (mut parent, mut side, mut at) = (None, Side::Left, tree.root());
        while let Some(here) = at {
            side = if value < tree[here] { Side::Left } else { Side::Right };
            parent = Some(here);
            at = tree.child(here, side);
        }
        tree.insert(parent, side, value)
    }

    fn find(tree: &Tree<u32>, value: u32) -> NodeId {
        let mut at = tree.first();
        while let Some(here) = at {
            if tree[here] == value {
                return here;
            }
            at = tree.next(here);
        }
        panic!("{value} is not there");
    }

    /// Checks the rules of the colours below `node`; gives the number of black nodes on every path.
    fn checked(tree: &Tree<u32>, node: u32) -> usize {
        if node == NIL {
            return 1;
        }
        let [left, right] = [Side::Left, Side::Right].map(|side| tree.child_of(node, side));
        for child in [left, right].into_iter().filter(|&child| child != NIL) {
            assert_eq!(tree.parent(child), node);
            assert!(!(tree.is_red(node) && tree.is_red(child)), "red below red");
        }
        let blacks = checked(tree, left);
        assert_eq!(blacks, checked(tree, right), "as many black nodes on either side");
        blacks + usize::from(!tree.is_red(node))
    }

    /// The tree in brackets, red nodes marked.
    fn shape(tree: &Tree<u32>, node: Option<NodeId>) -> String {
        let Some(id) = node else { return ".".to_owned() };
        let [left, right] = [Side::Left, Side::Right].map(|side| shape(tree, tree.child(id, side)));
        let mark = if tree.is_red(id.0) { "r" } else { "" };
        if left == "." && right == "." {
            format!("{}{mark}", tree[id])
        } else {
            format!("({left} {}{mark} {right})", tree[id])
        }
    }

    #[test]
    fn the_shape_is_the_textbooks() {
        // Cormen et al., third edition, exercises 13.3-2 and 13.4-3.
        let mut tree = Tree::default();
        for value in [41, 38, 31, 12, 19, 8] {
            insert(&mut tree, value);
        }
        assert_eq!(shape(&tree, tree.root()), "(((8r 12 .) 19r 31) 38 41)");
        let shapes = [8, 12, 19, 31, 38].map(|value| {
            let id = find(&tree, value);
            assert_eq!(tree.remove(id), Some(value));
            shape(&tree, tree.root())
        });
        assert_eq!(shapes, ["((12 19r 31) 38 41)", "((. 19 31r) 38 41)", "(31 38 41)", "(. 38 41r)", "41"]);
    }

    #[test]
    fn order_and_colours_hold_whatever_is_inserted_and_removed() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let (mut tree, mut model) = (Tree::default(), BTreeSet::new());
            for _ in 0..400 {
                let value = rng.below(100);
                if rng.below(5) < 3 {
                    if model.insert(value) {
                        insert(&mut tree, value);
                    }
                } else if let Some(&value) = model.range(value..).next() {
                    let id = find(&tree, value);
                    assert_eq!(tree.remove(id), Some(value), "seed {seed}");
                    model.remove(&value);
                }
                checked(&tree, tree.root);
                assert!(!tree.is_red(tree.root));
                let order: Vec<u32> =
                    std::iter::successors(tree.first(), |&id| tree.next(id)).map(|id| tree[id]).collect();
                assert_eq!(order, Vec::from_iter(model.iter().copied()), "seed {seed}");
                assert_eq!(tree.last().map(|id| tree[id]), model.last().copied(), "seed {seed}");
                assert_eq!(tree.is_empty(), model.is_empty());
            }
        }
    }
}
