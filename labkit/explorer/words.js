// What the labels mean, in plain words, and the tour. Shown on hover and on focus.

export const STAGES = ["query", "offsets", "filter", "gain", "map", "scores"];

export const TITLES = {
  query: "Query",
  offsets: "Offsets into the support",
  filter: "Filter",
  gain: "Gain",
  map: "Score map",
  scores: "Scores of the classes",
};

export const WORDS = {
  query:
    "The picture whose class is asked for. The network turns it into a map of cells; the " +
    "green ring is one of them.",
  offsets:
    "For this cell the network looks at nine points of the class's support picture, its " +
    "labelled example. White dots are " +
    "the regular 3 x 3 grid; the offsets, which the network predicts from both pictures, move them.",
  filter:
    "What was read at the nine points becomes a filter: one number between 0 and 1 for each " +
    "group of channels. It is made " +
    "anew for every cell and every class; that is what 'dynamic' means.",
  gain:
    "Alignment follows dX/dt = f X from t = 0 to t = 1. So every channel of the query cell is " +
    "multiplied by a gain: 1 where " +
    "its group's filter is 0, up to 2.72 where it is 1.",
  map:
    "How strongly each cell of the aligned query speaks for the chosen class. Centred: the " +
    "mean over the classes is " +
    "subtracted, so blue cells argue for this class and red cells against it.",
  scores: "The score of a class is the mean of its score map. The largest one is the answer.",
  position:
    "One cell of the query's feature map. Move it with the mouse, a finger, the arrow keys or the two sliders.",
  time: "How far the alignment has gone: 0 is the query as it came, 1 is fully aligned.",
  margin: "How far the right class leads over the best of the others. Below zero the answer is wrong.",
  change: "How much the score differs from the score without alignment. The thin line marks that score.",
  outside:
    "Beyond the support picture's edge there is nothing to read: such a point contributes zeros, or partly so.",
  channels: "The numbers that describe this cell: grey as they come from the backbone, blue after the gain.",
  group: "Neighbouring channels that share one filter value.",
  cells: "The maps are of this many cells; each looks at a patch of the picture.",
  "what if": "Move or remove points and see what the filter, the map and the margin would be.",
  network: "Trained weights, by name.",
  episode:
    "A few classes with one or a few labelled pictures each (support), and pictures to classify (query).",
  mode: "Trained offsets; those of a network that never learned where to look; or none, the regular grid.",
  view: "Paste such a text here, or give it to Explorer.restore, to see the same view again.",
  overlay: "Draws a number of every cell over the pictures.",
};

export const TOUR = [
  {
    stage: "query",
    text:
      "A picture to classify, and five classes known from one labelled picture each. Follow " +
      "one cell of it: the green ring. " +
      "Move it over the picture, or use the arrow keys.",
  },
  {
    stage: "offsets",
    text:
      "The objects may lie elsewhere in the two pictures. So the network chooses, for this " +
      "cell, nine points of the support " +
      "picture. Hollow points lie outside it and read zeros.",
  },
  {
    stage: "filter",
    text:
      "What it reads there becomes a filter made for this cell and this class: one bar a " +
      "group of channels. Point at a bar: " +
      "the same group lights up in the gain and the channels, and the map shows what that group adds.",
  },
  {
    stage: "gain",
    text:
      "The filter makes the query grow from t = 0 to t = 1; press Play. Channels whose group " +
      "has a high bar grow up to 2.72 " +
      "times.",
  },
  {
    stage: "scores",
    text:
      "The grown query is compared with every class; the mean over its map is the score. Look " +
      "at the margin with and " +
      "without alignment, then choose another view under 'Worth a look', or move a point and see what changes.",
  },
];
