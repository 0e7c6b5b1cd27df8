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
    "The picture whose class is asked for. The network turns it into a map of cells; the green square is one of them.",
  offsets:
    "For this cell the network looks at nine points of the class's support picture, its labelled example. White dots " +
    "are the regular 3 x 3 grid; the offsets, which the network predicts from both pictures, move them.",
  filter:
    "What was read at the nine points becomes a filter: one number between 0 and 1 for each group of channels. It is " +
    "made anew for every cell and every class; that is what 'dynamic' means. Where all nine lie outside the picture " +
    "zeros are read, every number is ½, and all channels will grow alike.",
  gain:
    "Alignment follows dX/dt = f X from t = 0 to t = 1. So every channel of the query cell is multiplied by a gain: " +
    "1 where its group's filter is 0; where it is 1, as much as the upper end of the scale says. Why that may help: " +
    "training brings ψ to raise, by and large, the groups whose channels are strong in this class's own support. A " +
    "query cell that has these channels too grows in them, and so agrees more with the class. Measured, most " +
    "answers are the same without it (notebook 8).",
  channels:
    "The channels of the query's cell, X, each under the bar of its group: grey as they come from the backbone, blue " +
    "after the gain.",
  map:
    "How strongly each cell of the aligned query speaks for the chosen class. It is shown centred: this class's map " +
    "less the mean of the maps of all classes, so blue cells argue for this class and red cells against it.",
  plain:
    "With this, the large map is the class's own score map; its mean is the score. Without it, the map is centred: " +
    "less the mean of the maps of all classes, so that the differences between classes are seen.",
  scores:
    "The score of a class is the mean of its own score map, before it is centred. The largest one is the answer. The " +
    "bars show where the classes stand: to the right of the line above the mean of all, to the left below it.",
  position: "One cell of the query's feature map. Move it with the mouse, a finger, the arrow keys or the two sliders.",
  time: "How far the alignment has gone: 0 is the query as it came, 1 is fully aligned.",
  margin:
    "How far the right class leads over the best of the others, as a share of the spread, which is from the worst " +
    "score to the best. Below zero the answer is wrong. Alignment makes all scores grow, and leads in score units " +
    "with them; this share does not grow by that alone, so it can be compared.",
  standing:
    "How far a class is above or below the mean of the classes, as a share of the spread, which is from the worst " +
    "score to the best. At the right end of the scale all others tie below it, at the left end above it.",
  score: "The mean of the class's own score map, as the network gives it. Alignment lets all of them grow.",
  spread: "The unit of bars, changes and margins: the spread is from the worst score of a class to the best.",
  change:
    "How much alignment has moved the standing of a class, in % of the spread. If all scores only grow alike it is " +
    "zero: what one class wins, others lose.",
  bare: "The upright tick marks where the class stands without alignment, at t = 0.",
  moved: "The orange tick marks where the class stands at this t with no point moved.",
  "worth a look": "Views that a search over episodes found, each the strongest example of what its name says.",
  "what if": "Move or remove points and see what the filter, the map and the margin would be.",
  network: "Trained weights, by name.",
  episode: "A few classes with one or a few labelled pictures each (support), and pictures to classify (query).",
  mode: "Trained offsets; those of a network that never learned where to look; or none, the regular grid.",
  view: "Paste such a text here, or give it to Explorer.restore, to see the same view again.",
  overlay:
    "Colours every cell by a number: how far its nine points were moved (offset length), its score for the class, " +
    "how like the query's cell it is (similarity, on the support), or how long its filter is as a vector (filter " +
    "norm): where that is large, many channels will grow.",
};

export const TOUR = [
  {
    stages: ["query"],
    text:
      "A picture to classify, and classes that are known from one or a few labelled pictures each. Follow one cell " +
      "of it: the green square. Move the mouse over the picture, or use the arrow keys. A locked position does not " +
      "follow the mouse: there, click the picture and press Enter.",
  },
  {
    stages: ["offsets"],
    text:
      "The objects may lie elsewhere in the two pictures. So the network chooses, for this cell, nine points of the " +
      "support picture. Hollow points lie outside it and read zeros, or partly so.",
  },
  {
    stages: ["filter", "gain"],
    plays: true, // the controls may be out of the window
    text:
      "What it reads there becomes a filter made for this cell and this class: one bar a group of channels. With it " +
      "the query grows from t = 0 to t = 1: press Play below. Channels whose group has a high bar grow most. Point " +
      "at a bar: the same group lights up in the gain and the channels, and the map shows what that group adds.",
  },
  {
    stages: ["map"],
    text:
      "At every cell, the grown query is compared with the class. Each class has such a map; shown is the chosen " +
      "one's less the mean of all. So blue cells argue for this class and red ones against it.",
  },
  {
    stages: ["scores"],
    text:
      "The mean over a class's own map, before it is centred, is its score, and the best one is the answer. " +
      "Compare the margin with and without alignment, then choose another view under 'Worth a look', or move a point " +
      "and see what changes.",
  },
];
